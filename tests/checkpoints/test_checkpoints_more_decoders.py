"""Decoders of further architectures, in the variants of published checkpoints: the logits, the greedy tokens, the folders,
the parameter counts and the heads of transformers. `CASES` is the table of what is loaded.
"""

import os

import pytest
import torch

from parakit.checkpoints import load_model, parameter_counts, read_config
from parakit.model.heads import Classifier, Embedder
from tests.checkpoints.conformance import (
    assert_bf16_close,
    assert_close,
    assert_decoder_conforms,
    assert_round_trip,
    assert_same_greedy_tokens,
    padding,
    random_ids,
    reference_model,
    saved,
)

transformers = pytest.importorskip("transformers")

SIZES = {
    **{"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
}
SEQUENTIAL, WHOLE = {"use_parallel_residual": False}, {"partial_rotary_factor": 1.0, "rope_theta": 1e4}
# architecture -> transformers' prefix, and variants: a published checkpoint -> what its config has beyond the sizes
CASES: dict[str, tuple[str, dict[str, dict]]] = {
    "gpt_neox": (
        "GPTNeoX",
        {
            "pythia": {},
            "gpt-neox-20b": {"hidden_act": "gelu_fast"},
            "polyglot-ko": {"rotary_pct": 0.5},
            "open-calm": {"use_parallel_residual": False, "rotary_pct": 1.0},
            "redpajama-incite": {"rotary_pct": 1.0, "use_parallel_residual": False, "hidden_act": "gelu"},
            "stablelm-alpha": {"rotary_pct": 0.25, "num_attention_heads": 2},
            "japanese-gpt-neox": {"rotary_emb_base": 1e5, "rotary_pct": 1.0, "use_parallel_residual": False},
            "no-biases": {"attention_bias": False},
            "tied": {"tie_word_embeddings": True},
            "linear-rope": {
                "rope_parameters": {
                    **{"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
                    "partial_rotary_factor": 0.5,
                }
            },
        },
    ),
}
HEADS = {
    "gpt_neox": ("ForSequenceClassification", "ForTokenClassification", "Model"),
}
WINDOWS: tuple[str, ...] = ()  # variants whose windows and other peculiarities need many tokens to show


def all_variants() -> list:
    """(architecture, variant), the first variant of each in `make test`, the others in `make test-long`."""
    return [
        pytest.param(name, variant, marks=[] if number == 0 else [pytest.mark.long])
        for name, (_, variants) in CASES.items()
        for number, variant in enumerate(variants)
    ]


@pytest.fixture(autouse=True)
def threads():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def tiny(name: str, variant: str, head: str = "ForCausalLM", **changes):
    """A transformers model, tiny and random."""
    prefix, variants = CASES[name]
    config = getattr(transformers, CONFIGS.get(name, f"{prefix}Config"))(
        **SIZES | variants[variant] | changes
    )
    return reference_model(getattr(transformers, f"{prefix}{head}"), config)


CONFIGS: dict[str, str] = {}


@pytest.mark.parametrize(("name", "variant"), all_variants())
def test_a_published_variant_is_computed_and_kept(tmp_path, name, variant):
    reference = tiny(name, variant)
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert_decoder_conforms(model, reference)
    ids = random_ids(97, 3, 24)
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(ids).logits)
    assert read_config(tmp_path / "g") == read_config(folder) == model.config
    assert parameter_counts(folder)["total"] == sum(p.numel() for p in reference.parameters())
    assert model.config.n_params()["total"] == sum(p.numel() for p in reference.parameters())
    assert_same_greedy_tokens(model, reference)
    exact = model(ids)
    half, _ = load_model(folder, dtype="bfloat16")
    with torch.no_grad():
        assert_bf16_close(half(ids), reference.to(torch.bfloat16)(ids).logits, exact)


@pytest.mark.long
@pytest.mark.parametrize(("name", "head"), [(name, head) for name, heads in HEADS.items() for head in heads])
def test_heads_are_those_of_transformers(tmp_path, name, head):
    labels = {"num_labels": 3, "problem_type": "single_label_classification"} if head != "Model" else {}
    reference = tiny(name, next(iter(CASES[name][1])), head, **labels)
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    mask = padding([15, 9, 4], "right")
    ids = random_ids(97, 3, 15).masked_fill(~mask, 2)
    with torch.no_grad():
        if head == "Model":
            assert isinstance(model, Embedder)
            hidden = reference(ids, attention_mask=mask.long()).last_hidden_state
            assert_close(model.trunk(ids, attention_mask=mask)[mask], hidden[mask])
        else:
            assert isinstance(model, Classifier)
            wanted = reference(ids, attention_mask=mask.long()).logits
            got = model(ids, attention_mask=mask)
            rows = mask if model.classes.level == "token" else slice(None)
            assert_close(got[rows], wanted[rows])
    one = random_ids(97, 1, 15)
    assert_round_trip(
        reference, folder, tmp_path / "g", lambda m: getattr(m(one), "logits", m(one)[0]).float()
    )
