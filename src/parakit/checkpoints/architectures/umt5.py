"""UMT5 (Chung et al. 2023, "UniMax"): mT5 with relative positions in every layer instead of the first.

Published models have an output matrix of their own and logits without a scale, as transformers 4 computes them for
`tie_word_embeddings: false`. transformers 5 sets that key to true whatever a file has, and so scales their logits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import t5
from parakit.checkpoints.hf_config import HFConfig
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig, EncoderDecoderConfig

MODEL_TYPE = "umt5"
CLASSES: Mapping[str, str] = {
    "sequence_to_sequence": "UMT5ForConditionalGeneration",
    "embedder": "UMT5EncoderModel",
}
PREFIX, RENAMED, TIED_COPIES = t5.PREFIX, t5.RENAMED, t5.TIED_COPIES
is_ignorable = t5.is_ignorable
read_classifier, write_classifier = t5.read_classifier, t5.write_classifier
hf_tensors = t5.hf_tensors


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderDecoderConfig | EncoderConfig:
    """`tie_word_embeddings` decides about the scale, as in the version of transformers that wrote the file; the stored
    tensors about a separate output matrix: see `finalize`. `scalable_attention` is read by no program.
    """
    tied = hf_config.get("tie_word_embeddings")
    return t5.read_stacks(
        hf_config,
        where,
        MODEL_TYPE,
        CLASSES,
        scaled=tied is None or bool(tied),
        shape=t5.SHAPE | {"bias_per_layer": True},
        projection="gated-gelu",
        ignored=("scalable_attention",),
    )


def finalize(
    config: EncoderDecoderConfig | EncoderConfig, stored: Collection[str]
) -> EncoderDecoderConfig | EncoderConfig:
    """`config`, untied where an output matrix is stored; a tied one is scaled."""
    if not isinstance(config, EncoderDecoderConfig):
        return config
    tied = "lm_head.weight" not in stored
    scale = config.d_model**-0.5 if tied else config.decoder.logit_scale
    return config.replace(decoder=config.decoder.replace(tie_embeddings=tied, logit_scale=scale))


def write_settings(config: EncoderDecoderConfig | EncoderConfig) -> JsonObject:
    """The settings as T5's keys."""
    settings = t5.write_stacks(config, MODEL_TYPE)
    if isinstance(config, EncoderDecoderConfig):
        settings["tie_word_embeddings"] = config.decoder.logit_scale != 1.0
    return settings
