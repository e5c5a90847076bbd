"""Whether a model folder was tuned to talk. Reads two small files, no weights."""

from __future__ import annotations

from pathlib import Path

from parakit.common.artifacts import LINEAGE
from parakit.common.files import read_json


def is_chat_tuned(path: str | Path) -> bool:
    """Whether `generation_config.json` or the lineage (its config or result) says `chat: true`; false
    where nothing is said.

    A chat template alone proves nothing: a base model's folder has one too, so that it can be tuned.
    """
    path = Path(path)
    for name, places in (("generation_config.json", ((),)), (LINEAGE, (("config",), ("result",)))):
        if not (path / name).is_file():
            continue
        for place in places:
            found = read_json(path / name)
            for key in place:
                found = found.get(key) or {}
            if isinstance(found, dict) and isinstance(found.get("chat"), bool):
                return found["chat"]
    return False
