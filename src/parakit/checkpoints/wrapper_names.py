"""Names that a wrapper of training left in saved weights: `_orig_mod.` of torch.compile, and those of data-parallel ones.

A wrapper is a module around a module, so that its name stands in the names of all tensors inside. It says nothing about the
model; a checkpoint that was saved without unwrapping is read as if it had been.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from parakit.common.errors import UserError

WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "fully sharded data parallel",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
DATA_PARALLEL = "module"  # around the whole model only: inside of one it may be an ordinary name
Entry = TypeVar("Entry")


def without_wrappers(folder: str | Path, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The tensors under the names that they have in the model itself. `UserError` where two become one."""
    is_parallel = _is_data_parallel(entries)
    found: dict[str, Entry] = {}
    for name, entry in entries.items():
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        plain = plain.removeprefix(f"{DATA_PARALLEL}.") if is_parallel else plain
        if plain in found:
            raise UserError(
                f"{folder}: holds the tensor {plain!r} twice, one of them as {name!r} inside a wrapper",
                "keep one of them: save the unwrapped model's state_dict()",
            )
        found[plain] = entry
    return found


def wrappers_in(names: Iterable[str]) -> list[str]:
    """What wrote the wrappers' names, for people."""
    names = list(names)
    parts = {part for name in names for part in name.split(".")}
    found = [program for part, program in WRAPPERS.items() if part in parts]
    return found + (["data parallel"] if _is_data_parallel(names) else [])


def _is_data_parallel(names: Iterable[str]) -> bool:
    first = {next((part for part in name.split(".") if part not in WRAPPERS), "") for name in names}
    return first == {DATA_PARALLEL}
