"""Folders of models that also read images: their language model, which is what Parakit loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parakit.checkpoints.hf_config import IGNORED_KEYS, HFConfig
from parakit.common.errors import UserError
from parakit.common.files import JsonObject

# model_type -> class of the whole, and of its language model
_WHOLE = {
    "qwen3_5": ("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"),
    "qwen3_5_moe": ("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"),
}


def reads_images(hf_config: HFConfig) -> bool:
    """Whether a config.json is that of a model whose language model can be loaded by itself."""
    return str(hf_config.get("model_type")) in _WHOLE


def language_model_config(hf_config: JsonObject, where: str | Path) -> JsonObject:
    """The config.json of the language model in that of a model that also reads images; others as they are."""
    if not reads_images(hf_config):
        return hf_config
    text, (whole, language) = hf_config.get("text_config"), _WHOLE[hf_config["model_type"]]
    if not isinstance(text, Mapping):
        raise UserError(
            f"{where}: lacks `text_config`, the settings of the language model",
            "the model's config.json is incomplete: fetch it again",
        )
    names = hf_config.get("architectures") or [whole]
    if names != [whole]:
        raise UserError(
            f"{where}: `architectures` is {names!r}",
            f"of models that also read images Parakit loads the language model of {whole}",
        )
    shared = {key: value for key, value in hf_config.items() if key in IGNORED_KEYS}
    tied = hf_config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    return {**shared, **text, "architectures": [language], "tie_word_embeddings": tied}
