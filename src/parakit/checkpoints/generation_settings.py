"""The sampling settings that a model's publisher recommends: which keys of `generation_config.json` Parakit supports, and
keeps when a model is imported or exported. Never imports torch.
"""

from __future__ import annotations

from pathlib import Path

from parakit.checkpoints.folder_safety import read_small_json
from parakit.common.files import JsonObject

GENERATION = "generation_config.json"
SUPPORTED = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")
_IGNORED = (  # token ids, which come from the tokenizer, and provenance
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "_from_model_config"),
    *("transformers_version", "chat"),
)


def published_settings(folder: str | Path) -> tuple[JsonObject, list[str]]:
    """The supported settings of a model folder as they are written, and the names of the unsupported ones."""
    file = Path(folder) / GENERATION
    settings = read_small_json(file) if file.is_file() else {}
    supported = {name: settings[name] for name in SUPPORTED if settings.get(name) is not None}
    known = (*SUPPORTED, *_IGNORED)
    unsupported = [name for name, value in settings.items() if name not in known and value is not None]
    return supported, unsupported


def published_sampling(folder: str | Path) -> JsonObject:
    """The settings under Parakit's names, unchecked; temperature 0 where the publisher does not sample. Empty where the
    folder has none.
    """
    settings, _ = published_settings(folder)
    samples = settings.pop("do_sample", None)
    if samples is False:
        return {"temperature": 0.0} | {k: v for k, v in settings.items() if k == "repetition_penalty"}
    return ({"temperature": 1.0} if samples else {}) | settings
