"""What a model folder says about itself: parameters, family, head, context window, whether it was tuned for chat. Reads small
files only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from parakit.checkpoints.adapters.base_model import is_adapter_folder
from parakit.checkpoints.loading import parameter_counts, read_config, read_head
from parakit.common.errors import UserError
from parakit.inference.folder_settings import is_chat_tuned
from parakit.serving.models.locations import ModelLocation
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.inventory.finding import FoundFolder, find_models


@dataclass(frozen=True)
class ModelFacts:
    """`task`: the head's kind. `fault`: why the folder cannot be loaded, where it cannot."""

    family: str = ""
    task: str = ""
    n_parameters: int = 0
    max_seq_len: int = 0
    vocab_size: int = 0
    is_chat: bool = False
    is_adapter: bool = False
    fault: str = ""

    @property
    def generates(self) -> bool:
        """Whether it continues text."""
        return self.task == "language_model" and not self.fault

    @property
    def kind(self) -> str:
        """In a few words."""
        if self.fault:
            return "cannot be loaded"
        task = {"language_model": "chat" if self.is_chat else "text"}.get(
            self.task, self.task.replace("_", " ")
        )
        return f"{self.family}, {task}{', adapter' if self.is_adapter else ''}"


def model_facts(folder: Path) -> ModelFacts:
    """Of a model folder; read again when its config has changed."""
    stamps = tuple(
        (folder / name).stat().st_mtime_ns
        for name in ("config.json", "adapter_config.json")
        if (folder / name).is_file()
    )
    return _read(folder, stamps)


@lru_cache(maxsize=2000)
def _read(folder: Path, stamps: tuple[int, ...]) -> ModelFacts:
    try:
        config, head = read_config(folder), read_head(folder)
        return ModelFacts(
            family=config.family,
            task=head.kind,
            n_parameters=parameter_counts(folder)["total"],
            max_seq_len=config.max_seq_len,
            vocab_size=config.vocab_size,
            is_chat=is_chat_tuned(folder),
            is_adapter=is_adapter_folder(folder),
        )
    except UserError as error:
        return ModelFacts(fault=error.message)


def generating_models(context: StudioContext) -> dict[str, ModelFacts]:
    """The served models that generate text, by their names: those of the server, and those below the studio's folder, which
    are served from now on. Those tuned for chat come first.
    """
    if context.registry is None:
        return {}
    served = {location.path.resolve() for location in context.registry.locations}
    for found in find_models(context.root):
        if found.path.resolve() not in served and _is_servable(found):
            context.registry.add(ModelLocation(found.name, found.path))
    models = {location.name: model_facts(location.path) for location in context.registry.locations}
    usable = {name: facts for name, facts in models.items() if facts.generates}
    return dict(sorted(usable.items(), key=lambda one: not one[1].is_chat))


def _is_servable(found: FoundFolder) -> bool:
    """Whether the folder's name can be a model's: a colon separates the name of an adapter."""
    return ":" not in found.name and len(found.name) <= 200
