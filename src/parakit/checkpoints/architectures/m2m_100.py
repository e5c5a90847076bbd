"""M2M100 (Fan et al. 2020) and NLLB (Costa-jussa et al. 2022): a pre-norm Transformer for translation between any two of
100 or 200 languages.

Its sines have other wavelengths than those of 2017, and begin behind the row of the padding token. The decoder starts with
EOS and writes the target's language first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bart
from parakit.checkpoints.hf_config import MAX_SEQ_LEN, HFConfig, RequiredValues
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import EncoderDecoderConfig

MODEL_TYPE = "m2m_100"
CLASSES: Mapping[str, str] = {"sequence_to_sequence": "M2M100ForConditionalGeneration"}
ALIASES: Mapping[str, str] = {"M2M100Model": "sequence_to_sequence"}
PREFIX, RENAMED, TIED_COPIES = bart.PREFIX, bart.RENAMED, bart.TIED_COPIES
read_classifier, write_classifier = bart.read_classifier, bart.write_classifier
SHAPE = {
    **{"positions": "sinusoidal", "sinusoids": "tensor2tensor", "embedding_norm": False},
    **bart.PRE_NORM,
}
DEFAULTS = {
    **{"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.0, "scale_embedding": True},
    **{"activation_function": "relu", "decoder_start_token_id": 2, "pad_token_id": 1},
}
REQUIRED_VALUES: RequiredValues = {
    **bart.PRE_NORM_REQUIRED,
    "normalize_embedding": ((False, None), "a norm on the embedding"),
    "static_position_embeddings": ((True, None), "learned positions"),
}


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderDecoderConfig:
    """Positions are counted from the row behind the padding token's; the logits never have a bias."""
    values = {key: value for key, value in hf_config.items() if value is not None}
    filled = {**DEFAULTS, **values}
    pad_id = filled["pad_token_id"]
    if type(pad_id) is not int or not 0 <= pad_id < MAX_SEQ_LEN:
        raise UserError(
            f"{where}: `pad_token_id` is {pad_id!r}, and positions are counted from the row after it",
            "fetch the model's config.json again",
        )
    config = bart.read_pair(
        filled,
        where,
        model_type=MODEL_TYPE,
        shape=SHAPE | {"position_offset": pad_id + 1},
        required=REQUIRED_VALUES,
        defaults=DEFAULTS,
    )
    return config.replace(decoder=config.decoder.replace(lm_head_bias=False))


def write_settings(config: EncoderDecoderConfig) -> JsonObject:
    """The settings as M2M100's keys."""
    return bart.write_pair(config, MODEL_TYPE) | {"pad_token_id": config.encoder.position_offset - 1}


def hf_tensors(config: EncoderDecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer; positions are computed, not stored."""
    return bart.pair_tensors(config)


def is_ignorable(hf_name: str) -> bool:
    """Position tables, which follow from the settings."""
    return hf_name.endswith("embed_positions.weights")
