"""Models to look into, each a copy of its own: looking changes and records a forward pass by hooks, which a model that answers
requests at the same time must not have (docs/decisions/0070-the-studio-looks-into-a-copy.md).

All computing runs in one worker thread, so that two visitors do not change the same network, and the event loop stays free.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from parakit.common.artifacts import read_lineage
from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.lenses.tuned_lens import KIND as TUNED_LENS
from parakit.serving.studio.inventory.finding import find_folders

MAX_LOADED = 2
Result = TypeVar("Result")


def model_folders(root: Path) -> list[Path]:
    """The folders with a model or an adapter below `root`, newest first."""
    found = []
    for one in find_folders(root):
        if one.is_model or one.kind == "adapter":
            with contextlib.suppress(OSError):
                found.append((one.path.stat().st_mtime, one.path))
    return [path for _, path in sorted(found, reverse=True)]


def tuned_lenses(root: Path) -> dict[str, Path]:
    """The folders with translators of a tuned lens below `root`, by name."""
    return {one.name: one.path for one in find_folders(root) if one.kind == TUNED_LENS}


def model_title(path: Path, root: Path) -> str:
    """The path below the root, and the family where the lineage has it."""
    with contextlib.suppress(ValueError):
        path = path.relative_to(root)
    return " / ".join(part for part in path.parts if part not in ("builds", "models"))


def is_of_built_in_world(path: Path) -> bool:
    """Whether a model was made from the primer's text, whose pairs then fit it better than plain English."""
    with contextlib.suppress(UserError, OSError, KeyError, TypeError):
        parents = [Path(one["path"]) for one in read_lineage(path).get("parents") or []]
        places = [*parents, *(path.parent / parent.name for parent in parents), path.parent / "corpus"]
        for place in places:
            with contextlib.suppress(UserError, OSError):
                if "primer" in str(read_lineage(place).get("config", {})):
                    return True
    return False


class InspectedModels:
    """The models that were looked into last, and the thread in which that happens."""

    def __init__(self) -> None:
        self.loaded: OrderedDict[Path, tuple[float, Model]] = OrderedDict()
        self.worker = ThreadPoolExecutor(1, "look-inside")

    async def compute(
        self,
        path: Path,
        function: Callable[..., Result],
        *arguments: object,
        **named: object,
    ) -> Result:
        """`function(model, ...)` in the worker thread. `UserError` where the folder is gone or has no model."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self.worker, lambda: function(self._model(path), *arguments, **named)
        )

    async def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """`function(...)` in the worker thread, without a model."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, lambda: function(*arguments))

    def _model(self, path: Path) -> Model:
        if not path.is_dir():
            self.loaded.pop(path, None)
            raise UserError(f"{path}: the folder is gone", "choose another model, or restore the folder")
        changed = path.stat().st_mtime
        if path in self.loaded and self.loaded[path][0] == changed:
            self.loaded.move_to_end(path)
            return self.loaded[path][1]
        self.loaded.pop(path, None)
        while len(self.loaded) >= MAX_LOADED:
            self.loaded.popitem(last=False)
        model = Model.load(path)
        self.loaded[path] = (changed, model)
        return model


MODELS = InspectedModels()
