"""How a model's publisher wants it sampled: what of `generation_config.json` Parakit honours, and keeps when a model
comes in or goes out. Never imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parakit.checkpoints.folder_safety import read_small_json

GENERATION = "generation_config.json"
HONOURED = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")
_ITS_OWN = (  # ids, which the tokenizer says, and what only tells who wrote the file
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "_from_model_config"),
    *("transformers_version", "chat"),
)


def published_settings(folder: str | Path) -> tuple[dict[str, Any], list[str]]:
    """The honoured settings of a model folder as they are written, and the names of the others."""
    file = Path(folder) / GENERATION
    found = read_small_json(file) if file.is_file() else {}
    kept = {name: found[name] for name in HONOURED if found.get(name) is not None}
    others = [name for name in found if name not in (*HONOURED, *_ITS_OWN) and found[name] is not None]
    return kept, others


def published_sampling(folder: str | Path) -> dict[str, Any]:
    """The settings under our names, unchecked; temperature 0 where the publisher does not sample. Empty where nothing is
    said.
    """
    found, _ = published_settings(folder)
    samples = found.pop("do_sample", None)
    if samples is False:
        return {"temperature": 0.0} | {k: v for k, v in found.items() if k == "repetition_penalty"}
    return ({"temperature": 1.0} if samples else {}) | found
