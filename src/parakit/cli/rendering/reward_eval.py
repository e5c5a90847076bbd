"""What `parakit evaluate --preferences` measures and shows: how well a reward model judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.data.preferences import PREFERENCE_SPLITS, Ranking, iter_preferences, read_preferences
from parakit.data.skipped_rows import SkippedRows, skip_summary

if TYPE_CHECKING:
    from parakit.model.heads import RewardModel


def measure_preferences(
    path: str, preferences: str, split: str | None, device: str, advance: Callable[[int], object]
) -> dict[str, Any]:
    """The figures of the reward model `path` on a file of preferences, or on a split of a folder."""
    from parakit.checkpoints.model_folder import load_model
    from parakit.cli.rendering.model_loading import model_folder
    from parakit.common.devices import pick_device
    from parakit.evaluation.preferences import evaluate_preferences

    rankings = list(rankings_of(preferences, split))
    model, tokenizer = load_model(model_folder(path), pick_device(device))
    if tokenizer is None:
        raise UserError(f"{path}: has no tokenizer, so it cannot read", "put the model's tokenizer there")
    judge: RewardModel = model  # type: ignore[assignment]  # another kind of model is refused by name
    return evaluate_preferences(judge, tokenizer, rankings, advance)


def show_preferences(found: dict[str, Any], console: Console) -> None:
    """The figures as a table."""
    table = Table("judge", "finds the better answer", "95 % interval")
    interval = f"{found['low']:.1%} to {found['high']:.1%}"
    table.add_row("this model", f"{found['accuracy']:.1%}", interval)
    longer = "longer" if found["longer_is_better"] >= 0.5 else "shorter"
    table.add_row(f"the {longer} answer", f"{found['length_judge']:.1%}", "")
    table.add_row("guessing", f"{found['chance']:.1%}", "")
    console.print(table)
    for name, value in (
        ("pairs", f"{found['pairs']:,} of {found['rankings']:,} rankings"),
        ("calibration error", f"{found['calibration_error']:.1%}"),
        ("right where the better answer is longer", _share(found["accuracy_where_longer"])),
        ("right where it is shorter", _share(found["accuracy_where_shorter"])),
        ("rank correlation of reward and length", f"{found['length_correlation']:+.2f}"),
    ):
        console.print(f"{name}: {value}", highlight=False)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def rankings_of(path: str, split: str | None) -> Iterator[Ranking]:
    """The rankings of a file, of which it is told how many were left out, or of a split of a folder."""
    if not (Path(path) / LINEAGE).is_file():
        skipped = SkippedRows()
        yield from (ranking for _, ranking in read_preferences(path, skipped))
        for line in skip_summary({"skipped_rows": skipped.counts, "skipped_locations": skipped.locations}):
            log(f"{path}: {line}")
        return
    for name in (split,) if split else PREFERENCE_SPLITS[::-1]:  # test where there is one, else validation
        found = list(iter_preferences(path, name))
        if found:
            log(f"{path}: {len(found):,} rankings of the {name} split")
            yield from found
            return
        if split:
            raise UserError(f"{path}: the split {split!r} is empty", "name another, or make the folder again")
