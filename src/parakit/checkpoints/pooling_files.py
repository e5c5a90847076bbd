"""How an embedder's token vectors become one vector, beside its weights.

`config.json` has no word for it. sentence-transformers keeps it in `modules.json` and `1_Pooling/config.json`, and
so do we: its users can load our embedders, and we theirs. Torch-free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parakit.checkpoints.folder_safety import read_small_json, regular_file
from parakit.common.errors import UserError
from parakit.common.files import write_json_atomic
from parakit.model.config import EmbedderConfig

MODULES, POOLING = "modules.json", "1_Pooling"
_MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "last": "pooling_mode_lasttoken",
}
_TYPES = "sentence_transformers.models."


def read_pooling(folder: Path, default: EmbedderConfig) -> EmbedderConfig:
    """The pooling that the folder says, or `default` where it says nothing."""
    if not (folder / MODULES).is_file():
        return default
    kinds: list[Any] = []
    for module in read_small_json(regular_file(folder, MODULES), list):
        kinds.append(module.get("type") if isinstance(module, dict) else None)
    names = [str(kind).rsplit(".", 1)[-1] for kind in kinds]
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]):
        raise UserError(
            f"{folder / MODULES}: has the modules {', '.join(names)}",
            "Parakit computes a Transformer, a Pooling, and a Normalize where there is one",
        )
    where = folder / POOLING / "config.json"
    settings = read_small_json(regular_file(folder / POOLING, "config.json"))
    chosen = [name for name in settings if name.startswith("pooling_mode") and settings[name]]
    found = [ours for ours, theirs in _MODES.items() if chosen == [theirs]]
    if "pooling_mode" in chosen:  # newer folders name it
        found = [ours for ours in _MODES if settings["pooling_mode"] in (ours, f"{ours}token")]
    if not found:
        raise UserError(
            f"{where}: asks for the pooling {', '.join(chosen) or 'none'}",
            f"Parakit computes one of: {', '.join(_MODES.values())}",
        )
    return EmbedderConfig.parse({"pooling": found[0], "normalize": "Normalize" in names}, str(where))


def write_pooling(folder: Path, pooling: EmbedderConfig, d_model: int) -> None:
    """`modules.json` and the pooling's own settings."""
    modules = [("", "Transformer"), (POOLING, "Pooling")]
    if pooling.normalize:
        modules.append(("2_Normalize", "Normalize"))
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": _TYPES + kind}
        for i, (path, kind) in enumerate(modules)
    ]
    write_json_atomic(folder / MODULES, listed)
    (folder / POOLING).mkdir()
    modes = {theirs: ours == pooling.pooling for ours, theirs in _MODES.items()}
    others = {f"pooling_mode_{name}": False for name in ("max_tokens", "mean_sqrt_len_tokens")}
    write_json_atomic(
        folder / POOLING / "config.json", {"word_embedding_dimension": d_model, **modes, **others}
    )
