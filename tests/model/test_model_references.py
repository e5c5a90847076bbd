"""Logits of whole models against formulas written out in float64, whatever the choices, and against transformers'
Qwen3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from parakit.model import LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.model.transformer_config import TransformerConfig
from tests.model.formulas import (
    arrays,
    config_of,
    encoder_of,
    head_logits,
    joined_of,
    random_weights,
    reference_logits,
    stack,
    under,
)
from tests.short_suite import examples

IDS = [5, 60, 0, 17, 17, 42, 3, 9, 31]


def choices_of(draw: Any, **fixed: Any) -> dict[str, Any]:
    """Any of the choices since 2017, in any combination that is allowed."""
    layer_norm = draw(st.booleans())
    experts = draw(st.sampled_from([{}, {"n_experts": 4, "n_shared_experts": 1, "dense_layers": (1,)}]))
    some = {
        "positions": draw(st.sampled_from(["rotary", "learned", "sinusoidal", "relative", "none"])),
        "n_kv_heads": draw(st.sampled_from([1, 2, 4])),
        "sliding_window": draw(st.sampled_from([None, 3, 4])),
        "local_layers": draw(st.sampled_from([None, (1,)])),
        "local_rope_theta": draw(st.sampled_from([None, 50.0])),
        "norm": "layer" if layer_norm else "rms",
        "norm_bias": layer_norm and draw(st.booleans()),
        "activation": draw(st.sampled_from(["silu", "gelu", "gelu_tanh", "relu", "squared_relu"])),
        "attention_scale": draw(st.sampled_from([None, 0.7])),
        "attention_soft_cap": draw(st.sampled_from([None, 1.5])),
        "logit_soft_cap": draw(st.sampled_from([None, 3.0])),
        "logit_scale": draw(st.sampled_from([1.0, 0.3])),
        "embedding_scale": draw(st.sampled_from([1.0, 2.5])),
        "n_token_types": draw(st.sampled_from([0, 2])),
        "position_offset": draw(st.sampled_from([0, 2])),
        "n_relative_buckets": 8,
        "max_relative_distance": 6,
    }
    names = (
        "attention_bias attention_output_bias query_key_norm post_norm embedding_norm final_norm gated"
        " head_transform lm_head_bias tie_embeddings"
    )
    flags = {name: draw(st.booleans()) for name in names.split()}
    biased = {"feed_forward_bias": not experts and draw(st.booleans())}
    return some | flags | biased | experts | fixed


def close(got: torch.Tensor, wanted: np.ndarray) -> None:
    """The tables of positions are float32; all else is float64 here and there."""
    np.testing.assert_allclose(got.detach().numpy(), wanted, atol=2e-5 * max(1.0, np.abs(wanted).max()))


@given(st.data())
@examples(50)
def test_logits_of_any_decoder_are_the_formulas(data: st.DataObject) -> None:
    model = random_weights(LanguageModel(config_of(**choices_of(data.draw)))).double()
    close(model(torch.tensor([IDS]))[0], reference_logits(model, IDS))


@given(st.data())
@examples(50)
def test_logits_of_any_encoder_are_the_formulas(data: st.DataObject) -> None:
    model = random_weights(MaskedLanguageModel(encoder_of(**choices_of(data.draw)))).double()
    close(model(torch.tensor([IDS]))[0], reference_logits(model, IDS))


@given(st.data())
@examples(40)
def test_logits_of_any_encoder_decoder_are_the_formulas(data: st.DataObject) -> None:
    model = random_weights(SequenceToSequence(joined_of(**choices_of(data.draw)))).double()
    source_ids, w = [8, 8, 44, 1, 30], arrays(model)
    shared = {"token_embedding.weight": w["trunk.encoder.token_embedding.weight"]}
    encoder, decoder = model.config.encoder, model.config.decoder
    source = stack(source_ids, under(w, "trunk.encoder."), encoder, np.ones((5, 5), bool))
    hidden = stack(
        IDS, under(w, "trunk.decoder.") | shared, decoder, np.tri(len(IDS), dtype=bool), source=source
    )
    w["trunk.token_embedding.weight"] = shared["token_embedding.weight"]
    close(model(torch.tensor([source_ids]), torch.tensor([IDS]))[0], head_logits(hidden, w, decoder))


def test_token_types_are_added_where_they_are_given() -> None:
    config = encoder_of(n_token_types=2)
    model, types = random_weights(MaskedLanguageModel(config)).double(), [0, 0, 1, 1, 1, 0, 1, 0, 0]
    hidden = stack(IDS, under(arrays(model), "trunk."), config, np.ones((9, 9), bool), types=types)
    got = model(torch.tensor([IDS]), token_type_ids=torch.tensor([types]))[0]
    close(got, head_logits(hidden, arrays(model), config))


def test_logits_of_a_packed_row_are_the_formulas() -> None:
    model = random_weights(LanguageModel(config_of())).double()
    documents, at = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2]), np.array([0, 1, 2, 0, 1, 2, 3, 0, 1])
    mask = np.tril(documents[:, None] == documents[None, :])
    got = model(
        torch.tensor([IDS]),
        position_ids=torch.tensor(at)[None],
        attention_mask=torch.tensor(mask)[None, None],
    )
    close(got[0], reference_logits(model, IDS, mask, at))


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_transformers_qwen3(tied: bool) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = config_of(tie_embeddings=tied, rope_theta=5000.0)
    model = random_weights(LanguageModel(config))
    hf_config: TransformerConfig | Any = Qwen3Config(
        vocab_size=61, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, rms_norm_eps=1e-6, tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    )  # fmt: skip
    reference = Qwen3ForCausalLM(hf_config).eval()
    renamed = {
        "trunk.token_embedding": "model.embed_tokens", "trunk.final_norm": "model.norm",
        "trunk.blocks": "model.layers", "attention_norm": "input_layernorm",
        "feed_forward_norm": "post_attention_layernorm", "feed_forward.": "mlp.", "attention.": "self_attn.",
        "query_norm": "q_norm", "key_norm": "k_norm", "query": "q_proj", "key": "k_proj", "value": "v_proj",
        "output": "o_proj", "gate": "gate_proj", "up.": "up_proj.", "down": "down_proj",
    }  # fmt: skip
    state = {}
    for name, weight in model.state_dict().items():
        for actual, other in renamed.items():
            name = name.replace(actual, other)
        state[name] = weight
    reference.load_state_dict(state)
    ids = torch.randint(0, 61, (2, 12))
    with torch.no_grad():
        actual, wanted = model(ids), reference(ids).logits
    assert (actual - wanted).abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max()))


def test_a_fresh_model_is_blocks_of_identity_and_its_loss_is_that_of_guessing() -> None:
    model = LanguageModel(config_of(tie_embeddings=False))
    ids = torch.randint(0, 61, (2, 9))
    assert torch.equal(model(ids), torch.zeros(2, 9, 61))
    tied = LanguageModel(config_of(vocab_size=61))
    loss = functional.cross_entropy(tied(ids).flatten(0, 1), ids.roll(-1, 1).flatten())
    assert loss.item() == pytest.approx(math.log(61), abs=0.1)


def test_every_block_of_a_fresh_model_of_any_kind_adds_nothing() -> None:
    for model in (
        LanguageModel(config_of(n_experts=4, n_shared_experts=1)),
        MaskedLanguageModel(encoder_of(attention="low_rank")),
        LanguageModel(config_of(attention="linear")),
    ):
        stack_in = torch.randn(2, 9, 16)
        block = model.trunk.blocks[1]
        rotation = model.trunk.positions(torch.arange(9))
        assert torch.equal(block(stack_in, rotation, None, None), stack_in)
