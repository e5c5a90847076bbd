"""Configs of encoders and encoder-decoders that say what we do not compute, or say nothing sensible: refused by name."""

import json

import pytest

from parakit.checkpoints import read_config
from parakit.checkpoints.registry import architecture_of
from parakit.common import UserError
from tests.checkpoints import test_checkpoints_encoder_decoders as pairs
from tests.checkpoints import test_checkpoints_encoders as encoders
from tests.checkpoints.conformance import saved

pytest.importorskip("transformers")

REFUSED = [
    ("Bert", {"is_decoder": True}, "is_decoder"),
    ("Bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("Bert", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("Bert", {"chunk_size_feed_forward": 8}, "chunk_size_feed_forward"),
    ("Bert", {"hidden_act": "mish"}, "hidden_act"),
    ("Bert", {"num_attention_heads": 5}, "num_attention_heads"),
    ("Bert", {"embedding_size": 16}, "embedding_size"),
    ("Bert", {"architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice"),
    ("ModernBert", {"classifier_bias": True}, "classifier_bias"),
    ("ModernBert", {"classifier_activation": "relu"}, "classifier_activation"),
    ("ModernBert", {"hidden_activation": 7, "classifier_activation": 7}, "hidden_activation"),
    ("ModernBert", {"layer_types": ["full_attention"]}, "layer_types"),
    ("ModernBert", {"global_attn_every_n_layers": 0}, "global_attn_every_n_layers"),
    ("ModernBert", {"global_attn_every_n_layers": 2}, "global_attn_every_n_layers"),
    ("ModernBert", {"global_rope_theta": 5.0}, "global_rope_theta"),
    ("ModernBert", {"rope_parameters": {"rope_theta": 5.0}}, "rope_parameters"),
    ("ModernBert", {"rope_scaling": {"factor": 2.0}}, "rope_scaling"),
    ("ModernBert", {"local_attention": 0}, "sliding_window"),
    ("T5", {"feed_forward_proj": "gated-mish"}, "feed_forward_proj"),
    ("T5", {"feed_forward_proj": 3}, "feed_forward_proj"),
    ("T5", {"dense_act_fn": "silu"}, "dense_act_fn"),
    ("T5", {"is_decoder": True}, "is_decoder"),
    ("T5", {"num_decoder_layers": 0}, "n_layers"),
    ("T5", {"decoder_start_token_id": 97}, "decoder_start_id"),
    ("T5", {"architectures": ["T5ForSequenceClassification"]}, "T5ForSequenceClassification"),
    ("Bart", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("Bart", {"normalize_before": True}, "normalize_before"),
    ("Bart", {"static_position_embeddings": True}, "static_position_embeddings"),
    ("Bart", {"is_encoder_decoder": False}, "is_encoder_decoder"),
    ("Bart", {"encoder_attention_heads": 5}, "encoder_attention_heads"),
    ("Bart", {"activation_function": "tanh"}, "activation_function"),
    ("Bart", {"decoder_ffn_dim": None}, "decoder_ffn_dim"),
    ("Bart", {"num_hidden_layers": 2}, "num_hidden_layers"),
    ("Marian", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings"),
    ("Marian", {"decoder_vocab_size": 50}, "decoder_vocab_size"),
    ("Marian", {"static_position_embeddings": False}, "static_position_embeddings"),
    ("Marian", {"decoder_start_token_id": None}, "decoder_start_token_id"),
    (
        "Marian",
        {"d_model": 33, "encoder_attention_heads": 3, "decoder_attention_heads": 3},
        "d_model = 33 is odd",
    ),
]

DAMAGED = (None, -1, 0, 2.5, float("nan"), "x", [], {"a": 1}, 10**12)


@pytest.fixture(scope="module")
def plain_configs(tmp_path_factory):
    """The folder and the config that transformers writes for a tiny model of each kind."""
    models = {prefix: encoders.tiny(prefix, {}) for prefix in ("Bert", "ModernBert")}
    sizes = {"T5": pairs.T5, "Bart": pairs.PAIR, "Marian": pairs.PAIR}
    models |= {prefix: pairs.tiny(prefix, size, {}) for prefix, size in sizes.items()}
    folders = {prefix: saved(model, tmp_path_factory.mktemp(prefix)) for prefix, model in models.items()}
    return {p: (folder, json.loads((folder / "config.json").read_text())) for p, folder in folders.items()}


@pytest.mark.parametrize(("prefix", "changes", "named"), REFUSED)
def test_unsupported_settings_are_refused_by_name(plain_configs, prefix, changes, named):
    folder, plain = plain_configs[prefix]
    (folder / "config.json").write_text(json.dumps(plain | changes))
    with pytest.raises(UserError, match=named) as refused:
        read_config(folder)
    assert "config.json" in refused.value.message


SIZES = {
    "Bert": ("vocab_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    "ModernBert": ("vocab_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    "T5": ("vocab_size", "d_model", "d_kv", "num_layers", "num_decoder_layers", "num_heads", "d_ff"),
    "Bart": ("vocab_size", "encoder_layers", "decoder_layers", "decoder_attention_heads", "encoder_ffn_dim"),
    "Marian": ("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_ffn_dim"),
}


@pytest.mark.parametrize("prefix", SIZES)
def test_a_size_that_is_none_is_named_in_the_words_of_the_file(plain_configs, prefix):
    plain = dict(plain_configs[prefix][1])
    if prefix in ("Bart", "Marian"):
        plain.pop("num_hidden_layers", None)  # it repeats encoder_layers
    for key in SIZES[prefix]:
        hf_config = plain | {key: 0}
        architecture, _ = architecture_of(hf_config, "config.json")
        with pytest.raises(UserError) as refused:
            architecture.read_settings(hf_config, "config.json")
        assert f"`{key}`" in str(refused.value)
        assert "0" in refused.value.message


@pytest.mark.parametrize("prefix", ["Bert", "ModernBert", "T5", "Bart", "Marian"])
def test_a_damaged_value_is_refused_or_honoured_and_never_a_crash(plain_configs, prefix):
    plain = plain_configs[prefix][1]
    refusals = []
    for key in plain:
        for value in DAMAGED:
            hf_config = plain | {key: value}
            try:
                architecture, _ = architecture_of(hf_config, "config.json")
                architecture.read_settings(hf_config, "config.json")
            except UserError as error:
                refusals.append(error.message)
    assert all(message.startswith("config.json") for message in refusals)
    assert len(refusals) > 3 * len(plain)
