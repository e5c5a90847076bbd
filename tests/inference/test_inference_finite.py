"""Weights that are no numbers: named at the import, and refused at the first step of everything that reads a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parakit.checkpoints import save_model
from parakit.checkpoints.import_export import export_model, import_model
from parakit.common import Lineage, UserError, open_artifact
from parakit.inference.batching import require_finite
from parakit.inference.loaded_model import Model
from parakit.model.config import ClassifierConfig, DecoderConfig, EmbedderConfig, EncoderConfig
from parakit.model.heads import Classifier, Embedder, LanguageModel, MaskedLanguageModel
from parakit.tokens import TokenizerConfig, train_tokenizer

SIZE = {
    "d_model": 8,
    "n_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "head_dim": 4,
    "d_ff": 8,
    "max_seq_len": 32,
}
TOKENIZER = train_tokenizer(["the small bird sings "] * 20, TokenizerConfig(vocab_size=280))


def planted(folder: Path, value: float, kind: str = "language_model") -> Path:
    """A model with one value of its first block that is no number."""
    size = SIZE | {"vocab_size": TOKENIZER.vocab_size}
    encoder = EncoderConfig(**size)
    model = {
        "language_model": lambda: LanguageModel(DecoderConfig(**size)),
        "masked": lambda: MaskedLanguageModel(encoder),
        "classifier": lambda: Classifier(encoder, ClassifierConfig(labels=("a", "b"))),
        "embedder": lambda: Embedder(encoder, EmbedderConfig(pooling="mean")),
    }[kind]()
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "feed_forward." in name and p.ndim == 2)[0, 0] = (
            value
        )
    return save_model(model, TOKENIZER, folder / kind, Lineage("model"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_import_and_an_export_name_the_tensor(tmp_path: Path, value: float) -> None:
    folder = planted(tmp_path, value)
    for run in (lambda out: import_model(str(folder), out), lambda out: export_model(folder, out)):
        with pytest.raises(
            UserError, match=r"1 of the 64 values of \S*mlp\S* \(float32\) are NaN or infinite"
        ):
            run(tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_an_import_records_that_the_weights_are_numbers(tmp_path: Path) -> None:
    written = import_model(str(planted(tmp_path, 0.5)), tmp_path / "out")
    assert open_artifact(written).lineage["result"]["finite_weights"] > 2000


def test_a_value_that_float16_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="65504"):
        import_model(str(planted(tmp_path, 1e6)), tmp_path / "out", dtype="float16")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_generation_stops_at_the_first_step(tmp_path: Path, value: float, temperature: float) -> None:
    """Greedy decoding answered nothing, with status 0; sampling ended in an IndexError."""
    model = Model.load(planted(tmp_path, value))
    with pytest.raises(UserError, match="logits are not finite"):
        model.generate("the bird", temperature=temperature, max_new_tokens=2)


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("language_model", lambda model: list(model.stream("the bird", max_new_tokens=2))),
        ("language_model", lambda model: model.logits("the bird")),
        ("language_model", lambda model: model.log_likelihood("the", " bird")),
        ("masked", lambda model: model.fill_mask("the [MASK] sings")),
        ("classifier", lambda model: model.classify(["the bird"])),
        ("embedder", lambda model: model.embed(["the bird"])),
    ],
)
def test_every_way_to_read_a_model_refuses_what_is_no_number(
    tmp_path: Path, kind: str, run: Callable[[Model], object]
) -> None:
    model = Model.load(planted(tmp_path, math.nan, kind))
    with pytest.raises(UserError, match="not finite"):
        run(model)


@pytest.mark.parametrize(
    ("row", "held"),
    [([0.0, -math.inf], True), ([math.nan, 1.0], False), ([math.inf], False), ([-math.inf], False)],
)
def test_what_counts_as_finite(row: list[float], held: bool) -> None:
    """A token that is ruled out has minus infinity; a row of nothing else has no choice left."""
    outputs = torch.tensor([[0.0] * len(row), row])
    if held:
        assert require_finite(outputs, "logits") is outputs
    else:
        with pytest.raises(UserError, match="not finite"):
            require_finite(outputs, "logits")
