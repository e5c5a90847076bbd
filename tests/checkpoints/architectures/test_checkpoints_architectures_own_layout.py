"""Models that no published architecture computes: saved under their own names, loaded again bit for bit, by Parakit only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from parakit.checkpoints.architectures import own_layout
from parakit.checkpoints.import_export import export_model
from parakit.checkpoints.loading import load_model, parameter_counts, read_config
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.model_folder import save_model
from parakit.checkpoints.registry import architecture_for, saving_architecture
from parakit.common import UserError
from parakit.common.artifacts import Lineage
from parakit.model.model_choices import ModelChoices
from parakit.model.presets import config_for_size
from parakit.stages.task_models import build_model

CHOICES: dict[str, tuple[str, dict[str, Any]]] = {
    "learned positions": ("decoder", {"positions": "learned", "norm": "layer", "norm_bias": True}),
    "shared experts": ("decoder", {"n_experts": 4, "n_shared_experts": 1, "n_active_experts": 1}),
    "untied, after": ("decoder", {"tie_embeddings": False, "post_norm": True, "final_norm": False}),
    "linear attention": ("decoder", {"attention": "linear"}),
    "encoder": ("encoder", {"positions": "none"}),
    "encoder-decoder": ("encoder-decoder", {"positions": "rotary", "activation": "squared_relu"}),
}


def config_of(name: str) -> Any:
    family, choices = CHOICES[name]
    return config_for_size("40k", 64, 16, family, None, ModelChoices.of(choices)).config


def saved(name: str, folder: Path) -> Any:
    torch.manual_seed(0)
    model = build_model(config_of(name)).eval()
    save_model(model, None, folder, Lineage("model", {}, []))
    return model


@pytest.mark.parametrize("name", CHOICES)
def test_a_model_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path / "model")
    assert json.loads((tmp_path / "model/config.json").read_text())["model_type"] == "parakit"
    again, _ = load_model(tmp_path / "model")
    assert read_config(tmp_path / "model") == again.config == model.config
    tensors = again.state_dict()
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in model.state_dict().items())
    assert parameter_counts(tmp_path / "model")["total"] == sum(p.numel() for p in model.parameters())


def test_it_is_not_exported(tmp_path: Path) -> None:
    saved("linear attention", tmp_path / "model")
    with pytest.raises(
        UserError, match=r"no published architecture computes this shape.*attention = 'linear'"
    ):
        export_model(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_published_shape_is_never_saved_so() -> None:
    config = config_for_size("40k", 64, 16).config
    assert saving_architecture(config, Head("language_model")).MODEL_TYPE == "qwen3"
    other = config.replace(positions="none")
    with pytest.raises(UserError, match="no published architecture computes this shape"):
        architecture_for(other, Head("language_model"))
    assert saving_architecture(other, Head("language_model")) is own_layout
    with pytest.raises(UserError, match="no published architecture"):
        saving_architecture(other, Head("reward_model"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": None}, "has no `family` and `settings`"),
        ({"family": "decoders"}, "no family 'decoders'"),
        ({"n_layers": 10**6}, "names 1,000,000 layers"),
        ({"positons": "none"}, "did you mean `positions`"),
        ({"d_model": 64}, "they belong to different models"),
    ],
    ids=str,
)
def test_a_damaged_folder_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    saved("learned positions", tmp_path / "model")
    for extra in ("lineage.json", "manifest.json"):
        (tmp_path / "model" / extra).unlink(missing_ok=True)
    path = tmp_path / "model/config.json"
    written = json.loads(path.read_text())
    if change.keys() & {"settings", "family"}:
        written |= change
    else:
        written["settings"] |= change
    path.write_text(json.dumps(written))
    with pytest.raises(UserError) as refusal:
        load_model(tmp_path / "model")
    assert message in str(refusal.value)
