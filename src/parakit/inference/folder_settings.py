"""What a model folder records about its use: chat tuning, sampling settings, training objective.

Reads small JSON files only: no weights, no torch.
"""

from __future__ import annotations

from pathlib import Path

from parakit.checkpoints.adapters.base_model import base_folder, is_adapter_folder
from parakit.checkpoints.generation_settings import GENERATION, published_generation
from parakit.checkpoints.loading import read_config
from parakit.common.artifacts import LINEAGE
from parakit.common.files import JsonObject, read_json
from parakit.common.progress import log
from parakit.inference.config import SamplingConfig
from parakit.tokens.chat.rendering import CHAT_TEMPLATE
from parakit.tokens.tokenizer.files import read_chat_template


def is_chat_tuned(path: str | Path) -> bool:
    """Whether a model folder, or that of an adapter, was tuned for conversations.

    `chat` in `generation_config.json` or in the lineage (its config or result), which Parakit writes, decides. Where
    neither says it, the folder's chat template does: publishers put one into a folder to be used. Parakit's own template
    proves nothing, because Parakit's base models have it too, so that they can be tuned. An adapter without a statement
    is as its base.
    """
    path = Path(path)
    for name, keys in ((GENERATION, (None,)), (LINEAGE, ("config", "result"))):
        if not (path / name).is_file():
            continue
        content = read_json(path / name)
        for key in keys:
            values = content if key is None else content.get(key)
            if isinstance(values, dict) and isinstance(values.get("chat"), bool):
                return values["chat"]
    if is_adapter_folder(path):
        return is_chat_tuned(base_folder(path))
    return read_chat_template(path) not in (None, CHAT_TEMPLATE)


def read_sampling_settings(path: str | Path) -> JsonObject:
    """The sampling settings of the folder's `generation_config.json`, checked; empty without any."""
    if is_adapter_folder(path) and not (Path(path) / GENERATION).is_file():
        path = base_folder(path)
    published = published_generation(path)
    settings = published.sampling()
    if published.max_new_tokens:
        settings["max_new_tokens"] = published.max_new_tokens
    if published.stop_strings:
        settings["stop"] = published.stop_strings
    if settings:
        SamplingConfig.parse(settings, str(Path(path) / GENERATION))
    return settings


def warn_prefix_lm(path: str | Path) -> None:
    """Print a warning for a decoder trained on prefixes (prefix LM): inference is purely causal."""
    lineage = Path(path) / LINEAGE
    config = (read_json(lineage).get("config") or {}) if lineage.is_file() else {}
    if config.get("objective") == "prefix" and read_config(path).family == "decoder":
        log(
            f"{path}: was trained with bidirectional attention on its prefixes, and every token of a prompt is read"
            " causally here, as by every program that loads such a folder: expect worse results than its validation,"
            " or tune it first"
        )
