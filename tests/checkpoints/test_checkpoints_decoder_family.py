"""GPT-NeoX, OPT, Gemma and the like: logits, greedy tokens, heads, counts and folders are those of transformers."""

import os

import pytest
import torch

from parakit.checkpoints import load_model, read_config
from parakit.checkpoints.registry import ARCHITECTURES
from parakit.common import UserError
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids, stream_ids
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
from tests.checkpoints.decoder_cases import ALL_HEADS, DECODERS, EMBEDDING_GEMMA, cases, head_cases

transformers = pytest.importorskip("transformers")

LABELS = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}}


@pytest.fixture(autouse=True)
def threads():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def tiny(name: str, variant: str, head: str = "language_model"):
    """A transformers model, tiny and random."""
    case = DECODERS[name]
    labels = LABELS if head in ("classifier", "token_classifier") else {}
    config = getattr(transformers, case.config or f"{case.prefix}Config")
    named = case.classifier if head == "classifier" else None
    model_class = getattr(transformers, named or f"{case.prefix}{ALL_HEADS[head]}")
    settings = config(**{**case.sizes, **case.variants[variant], **labels})
    return kernels(reference_model(model_class, settings, spread=case.spread), name)


def kernels(model, name: str):
    """`model` with transformers' kernels that compute all of this architecture."""
    if DECODERS[name].eager:
        model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize(("name", "variant"), cases())
def test_a_published_variant_is_computed_and_kept(tmp_path, name, variant):
    reference = tiny(name, variant)
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert_decoder_conforms(model, reference)
    ids = random_ids(97, 3, 24)
    written_as = DECODERS[name].written_as.get(variant)
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: kernels(m, name)(ids).logits, written_as)
    assert read_config(tmp_path / "g") == read_config(folder) == model.config
    assert model.config.n_params()["total"] == sum(p.numel() for p in reference.parameters())


@pytest.mark.long
@pytest.mark.parametrize(("name", "variant"), cases())
def test_its_greedy_tokens_and_halved_logits_are_those_of_transformers(tmp_path, name, variant):
    reference = tiny(name, variant)
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert_same_greedy_tokens(model, reference)
    ids = random_ids(97, 3, 24)
    exact = model(ids)
    half, _ = load_model(folder, dtype="bfloat16")
    with torch.no_grad():
        assert_bf16_close(half(ids), reference.to(torch.bfloat16)(ids).logits, exact)


@pytest.mark.long
@pytest.mark.parametrize(("name", "head"), head_cases())
def test_heads_are_those_of_transformers(tmp_path, name, head):
    reference = tiny(name, next(iter(DECODERS[name].variants)), head)
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    mask = padding([15, 9, 4], "right")
    ids = random_ids(97, 3, 15).masked_fill(~mask, 2)
    with torch.no_grad():
        wanted = reference(ids, attention_mask=mask.long())
        if head == "embedder":
            assert isinstance(model, Embedder)
            assert_close(model.trunk(ids, attention_mask=mask)[mask], wanted.last_hidden_state[mask])
        else:
            assert isinstance(model, Classifier)
            rows = mask if model.classes.level == "token" else slice(None)
            assert_close(model(ids, attention_mask=mask)[rows], wanted.logits[rows])
    one = random_ids(97, 1, 15)
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: kernels(m, name)(one)[0])


def test_the_first_name_of_longrope_is_read():
    case = DECODERS["phi3"]
    settings = {**case.sizes, **case.variants["Phi-3-mini-128k"], "model_type": "phi3"}
    renamed = settings | {"rope_scaling": settings["rope_scaling"] | {"type": "su"}}
    config = ARCHITECTURES["phi3"].read_settings(settings, "config.json")
    assert config == ARCHITECTURES["phi3"].read_settings(renamed, "config.json")
    assert config.rope_scaling.kind == "longrope"
    assert config.rope_scaling.factor == 4


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, marks=[pytest.mark.long] if number else [])
        for number, variant in enumerate(EMBEDDING_GEMMA)
    ],
)
def test_the_trunk_of_embedding_gemma_attends_in_both_directions(tmp_path, variant):
    sizes = {**DECODERS["gemma3_text"].sizes, **EMBEDDING_GEMMA[variant], "use_bidirectional_attention": True}
    reference = reference_model(transformers.Gemma3TextModel, transformers.Gemma3TextConfig(**sizes))
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, Embedder)
    assert model.config.family == "encoder"
    assert model.pooling.pooling == "mean"
    for side in ("right", "left"):
        mask = padding([24, 13, 5], side)
        ids = random_ids(97, 3, 24)
        position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            hidden = reference(ids, attention_mask=mask.long(), position_ids=position_ids).last_hidden_state
            assert_close(model.trunk(ids, attention_mask=mask, position_ids=position_ids)[mask], hidden[mask])
            pooled = torch.stack([row[real].mean(0) for row, real in zip(hidden, mask, strict=True)])
            got = model(ids, attention_mask=mask, position_ids=position_ids)
            assert_close(got, torch.nn.functional.normalize(pooled, dim=-1))
    with torch.no_grad():
        assert_close(model.trunk(ids), reference(ids).last_hidden_state)
    assert model.config.n_params()["total"] == sum(p.numel() for p in reference.parameters())
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(ids).last_hidden_state)
    assert read_config(tmp_path / "g") == read_config(folder) == model.config


def test_a_model_of_both_directions_predicts_no_next_token(tmp_path):
    sizes = {**DECODERS["gemma3_text"].sizes, "sliding_window": 8, "use_bidirectional_attention": True}
    settings = {**sizes, "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}
    with pytest.raises(UserError, match="use_bidirectional_attention"):
        ARCHITECTURES["gemma3_text"].read_settings(settings, "config.json")


def test_texts_that_outgrow_the_original_context_are_completed_in_batches_as_alone(tmp_path):
    reference = tiny("phi3", "Phi-3-mini-128k")
    model, _ = load_model(saved(reference, tmp_path / "f"))
    assert_same_greedy_tokens(model, reference, prompt_len=25, n_new=16)  # 32 tokens is where angles switch
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=16)
    prompts = [random_ids(97, length, seed=length).tolist() for length in (25, 30, 33, 3)]
    together = generate_ids(model, prompts, sampling)
    assert together == [generate_ids(model, [prompt], sampling)[0] for prompt in prompts]
    assert together[0] == list(stream_ids(model, prompts[0], sampling))
