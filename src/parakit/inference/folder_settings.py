"""What a model folder records about its use: chat tuning, sampling settings, training objective.

Reads small JSON files only: no weights, no torch.
"""

from __future__ import annotations

from pathlib import Path

from parakit.checkpoints.generation_settings import GENERATION, published_sampling
from parakit.checkpoints.loading import read_config
from parakit.common.artifacts import LINEAGE
from parakit.common.files import read_json
from parakit.common.progress import log
from parakit.inference.config import SamplingConfig


def is_chat_tuned(path: str | Path) -> bool:
    """Whether `generation_config.json` or the lineage (its config or result) has `chat: true`.

    A chat template alone proves nothing: a base model's folder has one too, so that it can be tuned.
    """
    path = Path(path)
    for name, keys in (("generation_config.json", (None,)), (LINEAGE, ("config", "result"))):
        if not (path / name).is_file():
            continue
        content = read_json(path / name)
        for key in keys:
            values = content if key is None else content.get(key)
            if isinstance(values, dict) and isinstance(values.get("chat"), bool):
                return values["chat"]
    return False


def read_sampling_settings(path: str | Path) -> dict[str, float]:
    """The sampling settings of the folder's `generation_config.json`, checked; empty without any."""
    settings = published_sampling(path)
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
