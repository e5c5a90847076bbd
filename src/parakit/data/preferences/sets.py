"""A set of preferences: exact duplicates left out, split into train, validation and test, as an artifact folder.

Split by the digest of the prompt, so that one prompt is never on both sides with two rankings, and more rows never
move those that are there. A small set whose held-out splits would be empty has their fractions doubled until they are
not, up to two fifths each; the report says which were used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import write_json_atomic
from parakit.common.progress import Bar
from parakit.data.config import PrimerConfig
from parakit.data.deduplication import DigestSet
from parakit.data.preferences.formats import parse_ranking
from parakit.data.preferences.rankings import Ranking
from parakit.data.preferences.readers import read_preferences
from parakit.data.skipped_rows import SkippedRows
from parakit.data.splits import SPLITS, split_of

PREFERENCE_SPLITS = SPLITS
WIDEST = 0.4  # of a split that is held out: two of them leave something to train on


def prepare_preferences(
    source: Sequence[str] | PrimerConfig,
    path: str | Path,
    *,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.0,
    overwrite: bool = False,
    progress: Bar | None = None,
) -> Path:
    """Read rankings from files (see `shapes.py`), or generate the primer's, into the artifact folder `path` (kind
    "preferences"). The primer's test split holds what it keeps out of training.

    Raises `UserError` where a row has no known shape and where a split that was asked for stays empty. `progress`
    counts rankings.
    """
    asked = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    lineage = Lineage("preferences", dict(asked))
    if isinstance(source, PrimerConfig):
        lineage.config["primer"], lineage.seed = source.model_dump(mode="json"), source.seed
    else:
        lineage.config["paths"] = list(source)
    fractions = dict(asked)
    with writing_artifact(path, lineage, overwrite) as folder:
        report = _Writer(source, **fractions).write(folder, progress)
        while wider := _widened(fractions, report["splits"]):
            fractions = wider
            report = _Writer(source, **fractions).write(folder, None)
        _check_filled(report, asked)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    return Path(path)


def iter_preferences(path: str | Path, split: str) -> Iterator[Ranking]:
    """Stream one split (`train`, `validation` or `test`) of a preferences folder."""
    if split not in PREFERENCE_SPLITS:
        raise UserError(f"{split!r} is no split", f"splits are {', '.join(PREFERENCE_SPLITS)}")
    place = open_artifact(path, "preferences").path / f"{split}.jsonl"
    with open(place, "rb") as file:
        for number, line in enumerate(file, 1):
            yield parse_ranking(json.loads(line), f"{place.name}, row {number}")


@dataclass
class _Writer:
    """Reads everything once, writes the three splits, and counts."""

    source: Sequence[str] | PrimerConfig
    validation_fraction: float
    test_fraction: float

    def write(self, folder: Path, progress: Bar | None) -> dict[str, Any]:
        known, n_duplicates, skipped = DigestSet(), 0, SkippedRows()
        counts, n_answers = dict.fromkeys(PREFERENCE_SPLITS, 0), 0
        with ExitStack() as stack:
            outputs = {
                split: stack.enter_context(
                    open(folder / f"{split}.jsonl", "w", encoding="utf-8", newline="\n")
                )
                for split in PREFERENCE_SPLITS
            }
            for split, ranking in self._divided(skipped):
                if not known.add(ranking.digest):
                    n_duplicates += 1
                    continue
                outputs[split].write(ranking.to_line())
                counts[split] += 1
                n_answers += len(ranking.completions)
                if progress:
                    progress.advance(1)
        return {
            "splits": counts,
            "completions": n_answers,
            "duplicates": n_duplicates,
            "skipped_rows": skipped.counts,
            "skipped_locations": skipped.places,
            "validation_fraction": self.validation_fraction,
            "test_fraction": self.test_fraction,
        }

    def _divided(self, skipped: SkippedRows) -> Iterator[tuple[str, Ranking]]:
        """(split, ranking) of everything that is read."""
        if isinstance(self.source, PrimerConfig):
            from parakit import primer

            yield from (
                ("test", ranking) for ranking in primer.generate_preferences(self.source, held_out=True)
            )
            rankings: Iterable[Ranking] = primer.generate_preferences(self.source)
        else:
            rankings = _read(self.source, skipped)
        for ranking in rankings:
            yield split_of(ranking.prompt_digest, self.validation_fraction, self.test_fraction), ranking


def _read(paths: Sequence[str], skipped: SkippedRows) -> Iterator[Ranking]:
    for path in paths:
        empty, before = True, skipped.total
        for _, ranking in read_preferences(path, skipped):
            empty = False
            yield ranking
        if empty:
            n_left_out = skipped.total - before
            why = f" ({n_left_out} rows have nothing to teach)" if n_left_out else ""
            raise UserError(
                f"{path}: no preferences found{why}", "give rows such as those of docs/preferences.md"
            )


def _widened(fractions: dict[str, float], n: dict[str, int]) -> dict[str, float] | None:
    """Twice the fraction of each split that was asked for and is empty; None where there is none, or no room."""
    wider = {
        name: max(fraction, min(WIDEST, 2 * fraction)) if not n[name.removesuffix("_fraction")] else fraction
        for name, fraction in fractions.items()
    }
    return wider if wider != fractions else None


def _check_filled(report: dict[str, Any], asked: dict[str, float]) -> None:
    n = report["splits"]
    wanted = {"train": 1.0, "validation": asked["validation_fraction"], "test": asked["test_fraction"]}
    for split, fraction in wanted.items():
        if fraction and not n[split]:
            raise UserError(
                f"{sum(n.values())} different preferences leave {split} empty",
                "give more of them, or set its fraction to 0",
            )
