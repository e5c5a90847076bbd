"""BERT and ModernBERT: transformers' masked-token logits, hidden vectors and folders."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from parakit.checkpoints import load_model, read_config, read_head, save_model
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.registry import architecture_for
from parakit.common import CorruptArtifact, Lineage, UserError
from parakit.model.config import EmbedderConfig, EncoderConfig
from parakit.model.heads import Embedder, MaskedLanguageModel
from parakit.model.layers.masks import document_mask
from tests.checkpoints.conformance import (
    assert_bf16_close,
    assert_close,
    assert_round_trip,
    padding,
    random_ids,
    reference_model,
    saved,
    tensors_of,
)

transformers = pytest.importorskip("transformers")

SIZES = {
    **{"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 2},
}
IDS = {"bos_token_id": 0, "eos_token_id": 1, "cls_token_id": 0, "sep_token_id": 1}
BIASES = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}
LOCAL = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
# name -> transformers' prefix and what the tiny model has beyond the sizes; a window of 6 is 3 tokens each way
CASES = {
    "bert": ("Bert", {}),
    "bert-variants": ("Bert", {"hidden_act": "relu", "type_vocab_size": 3, "layer_norm_eps": 1e-3}),
    "bert-tanh-gelu": ("Bert", {"hidden_act": "gelu_new"}),
    "modernbert": ("ModernBert", {"local_attention": 6}),
    "modernbert-odd-window": ("ModernBert", {"local_attention": 7, "norm_eps": 1e-3}),
    "modernbert-biases": ("ModernBert", {"local_attention": 6, **BIASES}),
    "modernbert-untied": ("ModernBert", {"tie_word_embeddings": False, "decoder_bias": False}),
    "modernbert-layers": (
        "ModernBert",
        {"local_attention": 4, "layer_types": LOCAL, "rope_parameters": ROPE},
    ),
    "modernbert-full": ("ModernBert", {"layer_types": ["full_attention"] * 4}),
    "modernbert-local": ("ModernBert", {"layer_types": ["sliding_attention"] * 4, "local_attention": 4}),
    "modernbert-silu": (
        "ModernBert",
        {"hidden_activation": "silu", "classifier_activation": "silu", "local_attention": 6},
    ),
}
# the same for more published checkpoints, in `make test-long`
MORE_CASES = {
    "bert-tiny": ("Bert", {"num_hidden_layers": 2, "num_attention_heads": 2}),
    "bert-large": ("Bert", {"num_hidden_layers": 5, "num_attention_heads": 8}),
    "minilm": ("Bert", {"intermediate_size": 128, "num_hidden_layers": 3}),
    "bge-small": ("Bert", {"max_position_embeddings": 128, "num_hidden_layers": 3}),
    "e5-base": ("Bert", {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.2}),
    "bert-one-type": ("Bert", {"type_vocab_size": 1}),
    "bert-silu": ("Bert", {"hidden_act": "silu"}),
    "modernbert-large": ("ModernBert", {"local_attention": 6, "num_hidden_layers": 5}),
    "modernbert-heads": ("ModernBert", {"local_attention": 10, "num_attention_heads": 2}),
}
# what the published folders say besides sizes
PUBLISHED = {
    "bert-base-uncased": (
        "Bert",
        {
            **{"gradient_checkpointing": False, "position_embedding_type": "absolute", "use_cache": True},
            **{"transformers_version": "4.6.0.dev0", "initializer_range": 0.02},
        },
    ),
    "bert-base-multilingual": (
        "Bert",
        {
            **{"directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12},
            **{"pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "output_past": True},
            **{"pooler_type": "first_token_transform", "classifier_dropout": None},
        },
    ),
    "ModernBERT-base": (
        "ModernBert",
        {
            **{"global_attn_every_n_layers": 2, "global_rope_theta": 900.0, "local_rope_theta": 70.0},
            **{"local_attention": 6, "layer_norm_eps": 1e-5, "position_embedding_type": "absolute"},
            **{"gradient_checkpointing": False, "reference_compile": True, "torch_dtype": "float32"},
        },
    ),
}


def tiny(prefix: str, changes: dict, head: str = "ForMaskedLM"):
    """A transformers model, tiny and random."""
    ids = IDS if prefix == "ModernBert" else {}
    config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **ids, **changes})
    return reference_model(getattr(transformers, f"{prefix}{head}"), config)


@torch.no_grad()
def assert_encoder_conforms(model, reference, answers) -> None:
    """What `answers(output)` reads from reference: plain, padded on either side, packed."""
    ids = random_ids(97, 3, 24)
    assert_close(model(ids), answers(reference(ids)))
    for side in ("right", "left"):
        mask = padding([24, 13, 1], side)
        got = model(ids, attention_mask=mask)
        assert_close(got[mask], answers(reference(ids, attention_mask=mask.long()))[mask])
    lengths = (11, 5, 8)
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    position_ids = torch.cat([torch.arange(length) for length in lengths])[None]
    mask = document_mask(documents, causal=False)
    got = model(ids[:1], attention_mask=mask, position_ids=position_ids)[0]
    texts = ids[0].split(list(lengths))
    assert_close(got, torch.cat([answers(reference(text[None]))[0] for text in texts]))


@pytest.mark.parametrize(
    "case", [*CASES, *(pytest.param(case, marks=pytest.mark.long) for case in MORE_CASES)]
)
def test_masked_token_logits_and_folders_are_those_of_transformers(tmp_path, case):
    reference = tiny(*{**CASES, **MORE_CASES}[case])
    folder = saved(reference, tmp_path / "f")
    model, tokenizer = load_model(folder)
    assert tokenizer is None
    assert isinstance(model, MaskedLanguageModel)
    assert not model.training
    assert_encoder_conforms(model, reference, lambda output: output.logits)
    ids = random_ids(97, 2, 20)
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(ids).logits)
    assert read_config(tmp_path / "g") == read_config(folder) == model.config


@pytest.mark.parametrize("case", ["bert", "modernbert", "modernbert-biases"])
def test_bfloat16_logits_are_near_those_of_transformers(tmp_path, case):
    reference = tiny(*CASES[case]).to(torch.bfloat16)
    model, _ = load_model(saved(reference, tmp_path / "f"))
    exact, _ = load_model(tmp_path / "f", dtype="float32")
    ids = random_ids(97, 3, 24)
    with torch.no_grad():
        assert_bf16_close(model(ids), reference(ids).logits, exact(ids))


def test_token_types_tell_a_pair_of_texts_apart(tmp_path):
    reference = tiny("Bert", {})
    model, _ = load_model(saved(reference, tmp_path / "f"))
    ids, types = random_ids(97, 3, 24), (torch.arange(24) >= 11).long().expand(3, 24)
    with torch.no_grad():
        got = model(ids, token_type_ids=types)
        assert_close(got, reference(ids, token_type_ids=types).logits)
        assert (got - model(ids)).abs().max() > 0.1


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_with_the_keys_of_a_published_folder_means_the_same(tmp_path, name):
    """transformers reads the very same file: old keys, leftovers, and no `layer_types`."""
    prefix, keys = PUBLISHED[name]
    folder = saved(tiny(prefix, {}), tmp_path / "f")
    hf_config = {
        **{key: value for key, value in SIZES.items() if key != "pad_token_id"},
        **{
            "architectures": [f"{prefix}ForMaskedLM"],
            "model_type": prefix.lower(),
            "pad_token_id": 0,
            **keys,
        },
    }
    (folder / "config.json").write_text(json.dumps(hf_config))
    reference = getattr(transformers, f"{prefix}ForMaskedLM").from_pretrained(folder).eval()
    model, _ = load_model(folder)
    ids = random_ids(97, 3, 24)
    with torch.no_grad():
        assert_close(model(ids), reference(ids).logits)


@pytest.mark.parametrize("prefix", ["Bert", "ModernBert"])
def test_the_bare_trunk_is_an_embedder(tmp_path, prefix):
    reference = tiny(prefix, {}, "Model")
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, Embedder)
    assert_encoder_conforms(model.trunk, reference, lambda output: output.last_hidden_state)
    save_model(model, None, tmp_path / "g", Lineage("model"))
    before, after = tensors_of(folder), tensors_of(tmp_path / "g")
    assert before.keys() == after.keys()  # the pooler, which no head uses, included
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    again, report = type(reference).from_pretrained(tmp_path / "g", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = random_ids(97, 2, 20)
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).last_hidden_state, reference(ids).last_hidden_state)
    assert read_head(tmp_path / "g").pooling == model.pooling == EmbedderConfig()


def test_a_pretrained_bert_becomes_a_masked_language_model(tmp_path):
    """BertForPreTraining has a pooler and a head for the next sentence besides."""
    reference = tiny("Bert", {}, "ForPreTraining")
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, MaskedLanguageModel)
    ids = random_ids(97, 3, 24)
    with torch.no_grad():
        assert_close(model(ids), reference(ids).prediction_logits)
    save_model(model, None, tmp_path / "g", Lineage("model"))
    before, after = tensors_of(folder), tensors_of(tmp_path / "g")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    again, report = type(reference).from_pretrained(tmp_path / "g", output_loading_info=True)
    assert not report["missing_keys"]
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).seq_relationship_logits, reference(ids).seq_relationship_logits)


def old_folder(tmp_path, change) -> tuple:
    """A BertForMaskedLM, and its folder with `change(tensors)` done to the file."""
    reference = tiny("Bert", {})
    folder = saved(reference, tmp_path / "f")
    tensors = load_file(folder / "model.safetensors")
    save_file(change(dict(tensors)), folder / "model.safetensors", metadata={"format": "pt"})
    return reference, folder


def test_names_and_copies_of_the_oldest_files_are_understood(tmp_path):
    def change(tensors):
        for name in list(tensors):
            for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
                if name.endswith(new):
                    tensors[name.replace(new, old)] = tensors.pop(name)
        embedding = tensors["bert.embeddings.word_embeddings.weight"]
        tensors["cls.predictions.decoder.weight"] = embedding.clone()
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
        tensors["bert.embeddings.position_ids"] = torch.arange(64)[None]
        tensors["bert.pooler.dense.weight"] = torch.zeros(32, 32)
        tensors["bert.pooler.dense.bias"] = torch.zeros(32)
        return tensors

    reference, folder = old_folder(tmp_path, change)
    model, _ = load_model(folder)
    ids = random_ids(97, 3, 24)
    with torch.no_grad():
        assert_close(model(ids), reference(ids).logits)


def test_a_copy_of_the_embedding_with_other_values_is_refused(tmp_path):
    name = "cls.predictions.decoder.weight"
    _, folder = old_folder(tmp_path, lambda tensors: tensors | {name: torch.zeros(97, 32)})
    with pytest.raises(CorruptArtifact, match=name):
        load_model(folder)


def test_settings_and_dropout_survive_the_round_trip(tmp_path):
    shape = {
        **{"vocab_size": 61, "d_model": 16, "n_layers": 3, "n_heads": 2, "n_kv_heads": 2, "head_dim": 8},
        **{"d_ff": 24, "max_seq_len": 40, "dropout": 0.1, "attention_dropout": 0.2},
    }
    actual = EncoderConfig(
        **shape, sliding_window=8, local_layers=(1, 2), rope_theta=777.0, local_rope_theta=55.0
    )
    save_model(MaskedLanguageModel(actual), None, tmp_path / "m", Lineage("model"))
    assert read_config(tmp_path / "m") == actual
    assert type(transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "m")).__name__ == (
        "ModernBertForMaskedLM"
    )


def test_a_shape_that_no_published_encoder_has_names_the_incompatible_settings():
    shape = {
        **{"vocab_size": 61, "d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
        **{"d_ff": 24, "max_seq_len": 40},
    }
    with pytest.raises(UserError, match=r"n_kv_heads = 1.*has 2"):
        architecture_for(EncoderConfig(**shape), Head("masked_language_model"))
