"""A program that damages checkpoints and looks whether that is noticed:
`python -m tests.training.parallel.damaged_checkpoints FOLDER N SEED`.

A run of one process and one of two leave two checkpoints each. Of the newer one a bit is flipped, `N` times, and each file is
cut at every 4 KiB, emptied and deleted; each time the one before it must be loaded, and a message must name the damaged file.
Prints one JSON object for each run.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from parakit.common.seeds import rng
from parakit.training import train_state
from parakit.training.trainer import Trainer
from tests.training.parallel.forked import in_processes
from tests.training.parallel.spread_runs import spread_trainer
from tests.training.tiny_runs import tiny_trainer

OLDER, NEWER = 2, 4  # steps
BLOCK = 4096


@dataclass
class Damage:
    """How often a checkpoint was damaged, and what was not noticed or not named."""

    flips: int = 0
    cuts: int = 0
    violations: list[str] = field(default_factory=list)


class Loader:
    """Loads again and again without building a trainer each time."""

    def __init__(self, folder: Path, trainer: Trainer | None = None) -> None:
        self.folder, self.trainer = folder, trainer or tiny_trainer(None)

    def step(self) -> int:
        s = self.trainer
        return train_state.load_train_state(self.folder, s.model, s.optimizer, s.precision, s.guard)[0]


def places(newest: Path, n: int, seed: int = 0) -> list[tuple[Path, int]]:
    """`n` positions in the bytes of a checkpoint's files, spread by a seed."""
    files = sorted(path for path in newest.iterdir() if path.is_file())
    sizes = [path.stat().st_size for path in files]
    ends = np.cumsum(sizes)
    drawn = np.sort(rng(seed, "places").choice(ends[-1], min(n, int(ends[-1])), replace=False))
    which = np.searchsorted(ends, drawn, "right")
    return [(files[i], int(position - ends[i] + sizes[i])) for i, position in zip(which, drawn, strict=True)]


def flip_each(loader: Loader, n: int, damage: Damage, seed: int = 0) -> None:
    """A bit of `n` bytes, one at a time."""
    for file, position in places(_newer(loader), n, seed):
        content = bytearray(file.read_bytes())
        content[position] ^= 1 << position % 8
        damage.flips += 1
        _look(loader, file, partial(file.write_bytes, content), damage)


def cut_each(loader: Loader, damage: Damage) -> None:
    """Each file at every block, one byte short, emptied and deleted."""
    for file in sorted(_newer(loader).iterdir()):
        size = len(file.read_bytes().rstrip())
        for n in sorted({0, 1, *range(BLOCK, size, BLOCK), size - 1}):
            content = file.read_bytes()[:n]
            damage.cuts += 1
            _look(loader, file, partial(file.write_bytes, content), damage)
        damage.cuts += 1
        _look(loader, file, file.unlink, damage)


def _newer(loader: Loader) -> Path:
    return loader.folder / f"step-{NEWER:08}"


def _look(loader: Loader, file: Path, spoil: Callable[[], object], damage: Damage) -> None:
    """Spoil a file, load, and restore it."""
    whole, printed = file.read_bytes(), io.StringIO()
    spoil()
    with contextlib.redirect_stderr(printed):
        step = loader.step()
    file.write_bytes(whole)
    if step != OLDER or file.name not in printed.getvalue() or f"step-{NEWER:08}" not in printed.getvalue():
        damage.violations.append(f"{file.name}: step {step}: {printed.getvalue()}")


def leave_two(folder: Path) -> None:
    """A run of one process, left after its second checkpoint."""
    for record in tiny_trainer(folder).steps():
        if record.step == NEWER + 1:
            break


def leave_two_in_parts(folder: Path) -> None:
    """One process of a run of several, left after its second checkpoint."""
    trainer = spread_trainer("next_token", folder, save_every=2, parallel="shard")
    for record in trainer.steps():
        if record.step == NEWER + 1:
            break
    trainer.engine.release()


def main() -> None:
    folder, n, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for name in ("one process", "two processes, shard"):
        place = folder / name.split()[0]
        if name == "one process":
            leave_two(place)
            loader = Loader(place)
        else:
            in_processes(2, leave_two_in_parts, place)
            loader = Loader(place, spread_trainer("next_token", None, save_every=2))
        assert loader.step() == NEWER
        damage = Damage()
        flip_each(loader, n, damage, seed)
        cut_each(loader, damage)
        assert loader.step() == NEWER
        print(json.dumps({"run": name} | vars(damage)), flush=True)


if __name__ == "__main__":
    main()
