"""A larger vocabulary on every kind of embedding and output matrix: transformers loads the folder, finds the old weights in
it, and computes the same logits.
"""

import copy
import json
from pathlib import Path

import pytest
import torch

from parakit.checkpoints import load_model, parameter_counts, read_config, save_model
from parakit.common import Lineage
from parakit.model.larger_vocabulary import add_token_rows
from tests.checkpoints.conformance import reference_model, saved

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SHORT = {"vocab_size": 97, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1}
PAIR = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "decoder_start_token_id": 2}
PAIR |= SHORT | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 40}
T5 = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 2}
T5 |= {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}
# transformers' class, and the config of the tiny model
CASES = {
    "tied": ("LlamaForCausalLM", SIZES | SHORT | {"tie_word_embeddings": True}),
    "untied": ("LlamaForCausalLM", SIZES | SHORT | {"tie_word_embeddings": False}),
    "encoder with a bias": ("BertForMaskedLM", SIZES | SHORT),
    "factorized embedding": ("ElectraForMaskedLM", SIZES | SHORT | {"embedding_size": 16}),
    "encoder-decoder, untied": ("T5ForConditionalGeneration", T5),
    "encoder-decoder, tied with a bias": ("BartForConditionalGeneration", PAIR),
    "classifier": ("BertForSequenceClassification", SIZES | SHORT),
}
PIECES = {97: (5, 6), 98: (7, 8, 8), 99: (9,)}


@pytest.fixture(params=CASES)
def published(request, tmp_path):
    """A model of transformers and its folder."""
    name, settings = CASES[request.param]
    model_class = getattr(transformers, name)
    reference = reference_model(model_class, model_class.config_class(**settings))
    return reference, saved(reference, tmp_path / "published")


def extended(folder: Path, pieces: dict[int, tuple[int, ...]], out: Path) -> Path:
    model, tokenizer = load_model(folder)
    assert add_token_rows(model, pieces) == 3
    return save_model(model, tokenizer, out, Lineage("model"))


@torch.no_grad()
def test_rows_of_new_tokens_are_the_mean_of_their_pieces_and_all_else_stays(published, tmp_path):
    reference, folder = published
    before = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    out = extended(folder, PIECES, tmp_path / "extended")
    loaded, notes = type(reference).from_pretrained(out, output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    for name, tensor in loaded.eval().state_dict().items():
        if tensor.shape == before[name].shape:
            assert torch.equal(tensor, before[name]), name
            continue
        rows, old = (tensor.T, before[name].T) if name == "final_logits_bias" else (tensor, before[name])
        assert len(rows) == 100, name
        assert torch.equal(rows[:97], old), name
        for token_id, parts in PIECES.items():
            torch.testing.assert_close(rows[token_id], old[list(parts)].mean(0))
    old_ids, new_ids = torch.tensor([[5, 9, 9, 90, 12]]), torch.tensor([[5, 99, 9, 90, 12]])  # 99 is only 9
    expected, *logits = (
        model(ids, **({"decoder_input_ids": ids} if reference.config.is_encoder_decoder else {})).logits
        for model, ids in ((reference, old_ids), (loaded, old_ids), (loaded, new_ids))
    )
    for one in logits:
        torch.testing.assert_close(one[..., :97], expected)
    assert read_config(out).vocab_size == 100
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 100
    assert parameter_counts(out)["total"] == sum(p.numel() for p in load_model(out)[0].parameters())


def test_spare_rows_are_used_before_new_ones_are_added(tmp_path):
    name, settings = CASES["tied"]
    model_class = getattr(transformers, name)
    folder = saved(reference_model(model_class, model_class.config_class(**settings)), tmp_path / "published")
    model, _ = load_model(folder)
    table = model.trunk.token_embedding.weight.detach().clone()
    grown = copy.deepcopy(model)
    assert add_token_rows(grown, {95: (5, 6), 96: (7,)}) == 0  # a tokenizer of 95 tokens
    assert grown.config == model.config
    assert torch.equal(grown.trunk.token_embedding.weight[:95], table[:95])
    torch.testing.assert_close(grown.trunk.token_embedding.weight[95], table[5:7].mean(0))
    assert torch.equal(grown.trunk.token_embedding.weight[96], table[7])
    assert grown.lm_head.weight is grown.trunk.token_embedding.weight
    assert add_token_rows(model, {96: (5, 6), 97: (7,)}) == 1
    assert model.config.vocab_size == model.trunk.config.vocab_size == model.lm_head.out_features == 98


def test_what_the_publisher_set_is_kept_and_the_stored_type(tmp_path):
    name, settings = CASES["tied"]
    model_class = getattr(transformers, name)
    reference = reference_model(model_class, model_class.config_class(**settings, attention_dropout=0.25))
    folder = saved(reference.bfloat16(), tmp_path / "published")
    before = json.loads((folder / "config.json").read_text())
    out = extended(folder, PIECES, tmp_path / "extended")
    after = json.loads((out / "config.json").read_text())
    assert after == before | {"vocab_size": 100}
    (table,) = (p for p in load_model(out)[0].parameters() if p.shape[0] == 100)
    assert table.dtype == torch.bfloat16
    assert torch.equal(table[99], table[9])
