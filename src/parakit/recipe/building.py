"""`parakit build`: from a recipe to a folder of artifacts, a report and a summary.

What is up to date is skipped, what was interrupted goes on, and `dry_run` only tells. One build at a time
works in a folder (a lock says so), for two would tread on each other's checkpoints.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import disk_errors, write_json_atomic, write_text_atomic
from parakit.common.progress import say
from parakit.common.settings import load_yaml, unread
from parakit.recipe.config import RecipeConfig, parse_time
from parakit.recipe.graph import Build, Decision
from parakit.recipe.stages import stages_of

BUILT_IN = "primer"
BUILDS = Path("builds")


def build(recipe: RecipeConfig, builds: Path = BUILDS) -> dict[str, Any]:
    """Make everything that `recipe` describes in `builds/NAME`; returns the summary, which also stands
    there as `summary.json`.
    """
    from parakit.recipe.report import write_report
    from parakit.recipe.summary import summarize

    folder = builds / recipe.name
    check_read(recipe, folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder):
        write_text_atomic(folder / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
        Build(folder, stages_of(recipe, folder)).run(_tell)
        summary = summarize(recipe, folder)
        write_json_atomic(folder / "summary.json", summary)
        write_report(summary, folder / "report.html")
    return summary


def dry_run(recipe: RecipeConfig, builds: Path = BUILDS) -> list[Decision]:
    """What `build` would do, stage by stage, and why. Writes nothing."""
    folder = builds / recipe.name
    check_read(recipe, folder)
    return list(Build(folder, stages_of(recipe, folder)).plan())


def load_recipe(path: str | Path, overrides: dict[str, Any] | None = None) -> RecipeConfig:
    """Read a recipe file; the name defaults to the file's. `overrides` (dotted keys) are laid over it."""
    path = Path(path)
    mapping = {"name": path.stem} | load_yaml(path)
    for dotted, value in (overrides or {}).items():
        _put(mapping, dotted.split("."), value)
    return RecipeConfig.parse(mapping, str(path))


def built_in_recipe() -> Path:
    """The recipe that `parakit build` makes when none is named: installed with the package, or in the
    checkout.
    """
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "recipes", here.parents[3] / "recipes"):
        if (folder / f"{BUILT_IN}.yaml").is_file():
            return folder / f"{BUILT_IN}.yaml"
    raise UserError("the built-in recipe is not installed", "name a recipe file, or give text with --text")


def recipe_for_text(paths: tuple[str, ...], **settings: Any) -> RecipeConfig:
    """A recipe for somebody's own text, everything else chosen: the vocabulary from the amount of text,
    the size from the time.
    """
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        raise UserError(f"{missing[0]}: no such file or folder", "check the path")
    name = Path(paths[0]).resolve().stem.split(".")[0] or "my-model"
    mapping = {
        "name": "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip("._-") or "my-model",
        "text": {"paths": list(paths)},
        "tokenizer": {"vocab_size": _vocab_size(_text_bytes(paths))},
    }
    for key, value in settings.items():
        if value is not None:
            _put(mapping, key.split("."), value)
    if not {"time", "size"} & {key for key, value in settings.items() if value is not None}:
        mapping["time"] = "10min"
    return RecipeConfig.parse(mapping, "parakit build --text")


def check_read(recipe: RecipeConfig, folder: Path) -> None:
    """A known key that no stage reads is an error before any work is done. Drawing up the plans reads
    what counts.
    """
    from parakit.training.config import TrainingConfig, resolve

    if recipe.time:
        parse_time(recipe.time)
    trainings = {"pretrain": recipe.pretrain}
    if recipe.finetune is not None:
        trainings["finetune"] = recipe.finetune
    n_enough = 10**15  # tokens: whether there is enough text is known later, and said then
    for training in trainings.values():
        assert isinstance(training, TrainingConfig)
        resolve(
            training,
            learning_rate=1.0,
            embedding_learning_rate=1.0,
            batch_tokens=1 << 20,
            max_seq_len=max(recipe.max_seq_len, training.seq_len or 0),
            n_train_tokens=n_enough,
        )
    for name, training in trainings.items():
        if paths := unread(training, f"{name}."):
            chosen = f"optimizer: {training.optimizer}, schedule: {training.schedule}"
            raise UserError(
                f"`{paths[0]}` is set, and nothing reads it with {chosen}",
                "take it out, or change what should read it",
            )


def _tell(decision: Decision) -> None:
    say(f"[{decision.stage.name}] {'' if decision.run else 'skipped: '}{decision.reason}")


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the build folder's lock; a lock that a dead process left is taken over."""
    lock = folder / ".lock"
    if lock.exists():
        owner = lock.read_text().strip()
        if owner.isdigit() and _alive(int(owner)):
            raise UserError(
                f"{folder}: process {owner} is building here", "wait for it, stop it, or choose another name"
            )
    lock.write_text(str(os.getpid()))
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _put(mapping: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = mapping.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UserError(f"`{'.'.join(keys)}`: `{key}` is no group of settings", "check the key's path")
        mapping = inner
    mapping[keys[-1]] = value


def _text_bytes(paths: tuple[str, ...]) -> int:
    """Roughly how much text there is; compressed files count threefold."""
    total = 0
    for name in paths:
        path = Path(name)
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                total += file.stat().st_size * (3 if file.suffix in (".gz", ".parquet") else 1)
    return total


def _vocab_size(n_bytes: int) -> int:
    """A power of two that grows with the cube root or so of the text: 1,024 for 1 MB, 4,096 for 50 MB,
    32,768 for 25 GB.
    """
    size = 512
    while size < 65_536 and n_bytes > 2e5 * (size / 512) ** 2.6:
        size *= 2
    return size
