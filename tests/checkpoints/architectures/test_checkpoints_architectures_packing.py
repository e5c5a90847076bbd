"""Every architecture passes the doctor's checks of packing, which run before the first step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from parakit.checkpoints import load_model
from parakit.model.heads import LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.model.presets import ARCHITECTURES, config_for_size
from parakit.tokens.batches.batch import Batch, MaskedBatch, PairBatch
from parakit.training import objectives
from parakit.training.doctor.checks.packing import MAX_COLUMNS, packing_changes_loss
from parakit.training.doctor.probes import probing
from tests.checkpoints.architectures.encoder_decoder_cases import ENCODER_DECODERS, PAIR
from tests.checkpoints.architectures.test_checkpoints_architectures_encoder_decoders import tiny as tiny_pair
from tests.checkpoints.conformance import reference_model, saved
from tests.checkpoints.decoder_cases import DECODERS, SIZES
from tests.checkpoints.encoder_cases import ENCODERS
from tests.checkpoints.test_checkpoints_decoder_family import tiny as tiny_decoder
from tests.checkpoints.test_checkpoints_encoder_family import tiny as tiny_encoder

transformers = pytest.importorskip("transformers")
QUICK = ("qwen3_5_text", "gemma3_text", "roberta", "t5")
LENGTHS = (37, 29)  # longer than the windows of the tiny models


def numbers(lengths: tuple[int, ...]) -> np.ndarray:
    return np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[None]


def token_batch(vocab_size: int, kind: type = Batch) -> Any:
    ids = np.random.default_rng(0).integers(4, vocab_size, size=(2, 1, sum(LENGTHS)))
    positions = np.concatenate([np.arange(n) for n in LENGTHS])[None]
    mask = np.ones(ids[0].shape, bool)
    return kind(ids[0], ids[1], mask, numbers(LENGTHS), positions, int(mask.sum()), False)


def pair_batch(vocab_size: int) -> PairBatch:
    batch, sources = token_batch(vocab_size), numbers((21, 33))
    source_ids = np.random.default_rng(1).integers(4, vocab_size, size=sources.shape)
    return PairBatch(
        source_ids, sources >= 0, batch.input_ids, batch.target_ids, batch.loss_mask, batch.n_counted,
        sources, batch.document_ids,
    )  # fmt: skip


def detail(model: Any) -> str | None:
    config = model.config
    vocab_size = (config.decoder if isinstance(model, SequenceToSequence) else config).vocab_size
    batch, objective = {
        LanguageModel: (token_batch(vocab_size), objectives.next_token),
        MaskedLanguageModel: (token_batch(vocab_size, MaskedBatch), objectives.masked_token),
        SequenceToSequence: (pair_batch(vocab_size), objectives.sequence_to_sequence(0.0)),
    }[type(model)]
    with probing(model):
        return packing_changes_loss(SimpleNamespace(model=model, batch=batch, objective=objective))  # type: ignore[arg-type]


def _parameters() -> list[Any]:
    heads = {
        **{name: ("decoder", variant) for name, case in DECODERS.items() for variant in case.variants},
        **{
            name: ("encoder", next(iter(case.variants)))
            for name, case in ENCODERS.items()
            if "masked_language_model" in case.heads
        },
        **{name: ("pair", next(iter(case.variants))) for name, case in ENCODER_DECODERS.items()},
    }
    return [
        pytest.param(name, kind, variant, id=name, marks=[] if name in QUICK else [pytest.mark.long])
        for name, (kind, variant) in heads.items()
    ]


@pytest.mark.parametrize(("name", "kind", "variant"), _parameters())
def test_packing_leaves_the_loss_of_every_architecture(tmp_path, name, kind, variant):
    if kind == "decoder":
        if "language_model" not in DECODERS[name].heads:
            pytest.skip("it predicts no tokens")
        reference = tiny_decoder(name, variant)
    else:
        reference = (
            tiny_pair(name, variant)
            if kind == "pair"
            else tiny_encoder(name, variant, "masked_language_model")
        )
    model, _ = load_model(saved(reference, tmp_path / "f"))
    assert max(LENGTHS) <= MAX_COLUMNS
    assert detail(model) is None


OTHERS = {
    **dict.fromkeys(("Llama", "Mistral", "Qwen2", "Qwen3"), SIZES),
    **{
        prefix: SIZES | {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
        for prefix in ("Mixtral", "Qwen3Moe")
    },
    "GPT2": {"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
    **dict.fromkeys(("Bart", "Marian"), PAIR),
}


@pytest.mark.long
@pytest.mark.parametrize("prefix", list(OTHERS))
def test_packing_leaves_the_loss_of_the_older_architectures(tmp_path, prefix):
    config = getattr(transformers, f"{prefix}Config")(**OTHERS[prefix])
    head = {"Bart": "ForConditionalGeneration", "Marian": "MTModel", "GPT2": "LMHeadModel"}.get(
        prefix, "ForCausalLM"
    )
    reference = reference_model(getattr(transformers, f"{prefix}{head}"), config)
    model, _ = load_model(saved(reference, tmp_path / "f"))
    assert detail(model) is None


def test_a_state_that_goes_on_into_the_next_document_is_noticed(tmp_path, monkeypatch):
    """As other packers did with a recurrent architecture: positions restart, and the state does not."""
    from parakit.model.layers.gated_delta import GatedDeltaRule

    name = "qwen3_5_text"
    model, _ = load_model(saved(tiny_decoder(name, next(iter(DECODERS[name].variants))), tmp_path / "f"))
    assert detail(model) is None
    forward = GatedDeltaRule.forward
    monkeypatch.setattr(
        GatedDeltaRule,
        "forward",
        lambda self, x, rotation, mask, cache: forward(self, x, rotation, None, cache),
    )
    found = detail(model)
    assert found is not None
    assert "in one row" in found


@pytest.mark.long
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_packing_leaves_the_loss_of_every_preset(architecture):
    family = ARCHITECTURES[architecture][0]
    config = config_for_size("60k", 97, 128, family, architecture).config
    heads = {"decoder": LanguageModel, "encoder": MaskedLanguageModel, "encoder-decoder": SequenceToSequence}
    torch.manual_seed(0)
    assert detail(heads[family](config)) is None
