"""The encoder-decoders of `test_checkpoints_architectures_encoder_decoders.py`: transformers' class, and what varies between
published checkpoints, each shrunk to a tiny model. The first variant of each is tested by `make test`, the others by
`make test-long`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

STACKS = {
    **{"vocab_size": 97, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2},
    **{"num_heads": 4, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
    **{"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12},
    **{"feed_forward_proj": "gated-gelu", "initializer_factor": 0.3},
}
PAIR = {
    **{"vocab_size": 97, "d_model": 32, "max_position_embeddings": 48, "pad_token_id": 1},
    **{"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 40, "bos_token_id": 0},
    **{"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 56, "eos_token_id": 2},
    **{"decoder_start_token_id": 2, "activation_function": "relu", "scale_embedding": True},
}


@dataclass(frozen=True)
class PairCase:
    """An architecture's prefix in transformers, and its variants: published name -> what differs from `sizes`. In a variant
    `separate_head` gives the output matrix values of its own, `unscaled` is a file of transformers 4 and what that version
    computes for it, and `forced_bos` is the first token of every output.
    """

    prefix: str
    variants: Mapping[str, Mapping[str, Any]]
    sizes: Mapping[str, Any]
    is_t5: bool = False
    positions_after_padding: bool = False


_UNTIED = {"separate_head": True}
_T5_VARIANTS = {
    "flan-t5-base": {**_UNTIED, "tie_word_embeddings": False, "n_positions": 512, "output_past": True},
    "flan-t5-small": {**_UNTIED, "tie_word_embeddings": False, "num_layers": 3, "num_heads": 6},
    "flan-t5-large": {**_UNTIED, "tie_word_embeddings": False, "num_layers": 3, "num_decoder_layers": 3},
    "flan-t5-xl": {**_UNTIED, "tie_word_embeddings": False, "d_kv": 8, "d_ff": 80},
    "flan-ul2": {**_UNTIED, "tie_word_embeddings": False, "feed_forward_proj": "gated-silu"},
    "t5-v1_1-base": {**_UNTIED, "tie_word_embeddings": False},
    "byt5-small": {**_UNTIED, "tie_word_embeddings": False, "num_layers": 3, "num_decoder_layers": 1},
    "codet5-base": {"feed_forward_proj": "relu", "bos_token_id": 1, "eos_token_id": 2},
    "madlad400": {**_UNTIED, "tie_word_embeddings": False, "num_heads": 2, "d_kv": 16},
    "lamini-flan-t5": {**_UNTIED, "tie_word_embeddings": False, "relative_attention_num_buckets": 32,
                       "relative_attention_max_distance": 128, "num_beams": 4},
}  # fmt: skip
_MT5_VARIANTS = {
    "mt5-small": {**_UNTIED, "output_past": True},
    "mt5-base": {**_UNTIED, "num_layers": 3, "num_decoder_layers": 3},
    "mt5-large": {**_UNTIED, "num_heads": 2, "d_kv": 16},
    "mt5-xl": {**_UNTIED, "d_ff": 80},
    "one matrix": {},
    "mT5_multilingual_XLSum": {**_UNTIED, "num_beams": 4, "length_penalty": 0.6, "no_repeat_ngram_size": 2},
    "mt0-small": {**_UNTIED, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128},
    "SiLU": {**_UNTIED, "feed_forward_proj": "gated-silu"},
    "fewer decoder layers": {**_UNTIED, "num_layers": 3, "num_decoder_layers": 1},
    "epsilon": {**_UNTIED, "layer_norm_epsilon": 1e-5, "dropout_rate": 0.0},
}
_PUBLISHED_UMT5 = {**_UNTIED, "unscaled": True}
_UMT5_VARIANTS = {
    "umt5-small": {**_PUBLISHED_UMT5, "output_past": True, "scalable_attention": True},
    "umt5-base": {**_PUBLISHED_UMT5, "num_layers": 3, "num_decoder_layers": 3},
    "umt5-xl": {**_PUBLISHED_UMT5, "num_heads": 2, "d_kv": 16},
    "umt5-xxl": {**_PUBLISHED_UMT5, "d_ff": 80},
    "saved by transformers 5": _UNTIED,
    "one matrix": {},
    "pile-t5": {
        **_PUBLISHED_UMT5,
        **{"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128},
    },
    "aurora": {**_PUBLISHED_UMT5, "num_beams": 4, "length_penalty": 0.6},
    "fewer decoder layers": {**_PUBLISHED_UMT5, "num_layers": 3, "num_decoder_layers": 1},
    "epsilon": {**_PUBLISHED_UMT5, "layer_norm_epsilon": 1e-5, "feed_forward_proj": "gated-silu"},
}
_MBART_VARIANTS = {
    "mbart-large-50-many-to-many-mmt": {"forced_bos": 91, "num_beams": 5, "max_length": 200},
    "mbart-large-50-one-to-many-mmt": {"forced_bos": 89, "encoder_layers": 3},
    "mbart-large-50-many-to-one-mmt": {"forced_bos": 90, "decoder_layers": 3},
    "mbart-large-50": {"scale_embedding": False},
    "mbart-large-en-ro": {"decoder_start_token_id": 93, "forced_eos_token_id": None},
    "mbart-large-cc25": {"decoder_start_token_id": None, "activation_function": "gelu"},
    "barthez": {"activation_function": "gelu", "decoder_start_token_id": 2, "vocab_size": 103},
    "indobart": {"encoder_layers": 1, "decoder_layers": 1, "activation_function": "gelu"},
    "mbart-large-50-xlsum": {"forced_bos": 91, "no_repeat_ngram_size": 2},
    "more heads": {"encoder_attention_heads": 8, "decoder_attention_heads": 8, "decoder_ffn_dim": 24},
}
_PEGASUS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "forced_eos_token_id": 1}
_PEGASUS_VARIANTS = {
    "pegasus-xsum": {"static_position_embeddings": True, "extra_pos_embeddings": 0, "num_beams": 8},
    "pegasus-large": {"extra_pos_embeddings": 1, "num_beams": 8, "length_penalty": 0.8},
    "pegasus-cnn_dailymail": {"encoder_layers": 3, "min_length": 8},
    "pegasus-multi_news": {"decoder_layers": 3},
    "pegasus-pubmed": {"max_position_embeddings": 64},
    "pegasus_paraphrase": {"max_position_embeddings": 24, "encoder_attention_heads": 2},
    "financial-summarization-pegasus": {"decoder_ffn_dim": 24},
    "distill-pegasus": {"encoder_layers": 3, "decoder_layers": 1},
    "GELU": {"activation_function": "gelu"},
    "without a scale": {"scale_embedding": False, "no_repeat_ngram_size": 2},
}
_M2M_VARIANTS = {
    "nllb-200-distilled-600M": {"forced_bos": 91, "max_length": 200},
    "m2m100_418M": {"forced_bos": 90, "num_beams": 5, "early_stopping": True, "encoder_layerdrop": 0.05},
    "m2m100_1.2B": {"forced_bos": 90, "encoder_layers": 3, "decoder_layers": 3},
    "nllb-200-1.3B": {"forced_bos": 93, "encoder_attention_heads": 8, "decoder_attention_heads": 8},
    "nllb-200-3.3B": {"forced_bos": 92, "d_model": 48},
    "small100": {"encoder_layers": 3, "decoder_layers": 1},
    "wmt19-m2m": {"forced_bos": 91, "no_repeat_ngram_size": 2},
    "another padding id": {"pad_token_id": 3},
    "without a scale": {"scale_embedding": False},
    "GELU": {"activation_function": "gelu", "forced_bos": 96, "max_position_embeddings": 24},
}

ENCODER_DECODERS: dict[str, PairCase] = {
    "t5": PairCase("T5", _T5_VARIANTS, STACKS, is_t5=True),
    "mt5": PairCase("MT5", _MT5_VARIANTS, STACKS, is_t5=True),
    "umt5": PairCase("UMT5", _UMT5_VARIANTS, STACKS, is_t5=True),
    "mbart": PairCase("MBart", _MBART_VARIANTS, PAIR),
    "pegasus": PairCase("Pegasus", _PEGASUS_VARIANTS, {**PAIR, **_PEGASUS}),
    "m2m_100": PairCase("M2M100", _M2M_VARIANTS, PAIR, positions_after_padding=True),
}


def cases() -> list[Any]:
    """(architecture, variant) as parameters: the first variant of each for `make test`, the others for `make test-long`."""
    return [
        pytest.param(name, variant, id=f"{name}-{variant}", marks=[pytest.mark.long] if number else [])
        for name, case in ENCODER_DECODERS.items()
        for number, variant in enumerate(case.variants)
    ]
