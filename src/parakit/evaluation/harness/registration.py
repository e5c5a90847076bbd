"""Importing this module adds the model `parakit` to lm-eval: `simple_evaluate(model="parakit", model_args="path=FOLDER")`."""

from __future__ import annotations

from typing import Any

from lm_eval.api.registry import register_model

from parakit.checkpoints.loading import load_model
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.evaluation.harness.backends import make_backend
from parakit.evaluation.harness.model import HarnessModel


@register_model("parakit")
class RegisteredModel(HarnessModel):
    """A model folder. lm-eval's batch sizes have no effect: the engine chooses its own."""

    def __init__(self, path: str, *, device: str | None = None, **_: Any) -> None:
        model, tokenizer = load_model(path, str(pick_device(device or "cpu")))
        if tokenizer is None:
            raise UserError(f"{path}: has no tokenizer.json", "put the model's tokenizer there")
        super().__init__(make_backend(model, tokenizer), tokenizer, name=path)
