"""A set of preferences: deduplicated, split into train, validation and test, as an artifact folder.

The digest of the prompt decides the split, so all rankings of a prompt are in one split and further rows move none.
Where a small set leaves a held-out split empty, its fraction is doubled up to two fifths, and the report gives the
fractions used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.progress import Bar
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.preferences.formats import parse_ranking
from parakit.data.preferences.rankings import Ranking
from parakit.data.preferences.readers import read_preferences
from parakit.data.row_report import RowReport
from parakit.data.sources import GeneratedSource, Source, record_source
from parakit.data.splits import SPLITS, split_of, split_path, writing_splits

PREFERENCE_SPLITS = SPLITS
MAX_FRACTION = 0.4  # of a held-out split: two of them leave something to train on


def prepare_preferences(
    source: Source[Ranking],
    path: str | Path,
    *,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.0,
    overwrite: bool = False,
    progress: Bar | None = None,
) -> Path:
    """Read rankings from files (see `formats.py`), or generate them, into the artifact folder `path` (kind
    "preferences"). Rankings that a generator holds out are the test split.

    Raises `UserError` where a row has no known format and where a requested split stays empty. `progress` counts
    rankings.
    """
    requested = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    lineage = Lineage("preferences", dict(requested))
    record_source(lineage, source)
    fractions = dict(requested)
    with writing_artifact(path, lineage, overwrite) as folder:
        report = _RankingWriter(source, **fractions).write(folder, progress)
        while wider := _widened(fractions, report["splits"]):
            fractions = wider
            report = _RankingWriter(source, **fractions).write(folder, None)
        _check_filled(report, requested)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    return Path(path)


def iter_preferences(path: str | Path, split: str) -> Iterator[Ranking]:
    """Stream one split (`train`, `validation` or `test`) of a preferences folder."""
    rows = split_path(path, "preferences", split, PREFERENCE_SPLITS)
    with open(rows, "rb") as file:
        for number, line in enumerate(file, 1):
            yield parse_ranking(json.loads(line), f"{rows.name}, row {number}")


@dataclass
class _RankingWriter:
    """Reads everything once, writes the three splits, and counts."""

    source: Source[Ranking]
    validation_fraction: float
    test_fraction: float

    def write(self, folder: Path, progress: Bar | None) -> JsonObject:
        known, n_duplicates, skipped = DigestSet(), 0, RowReport()
        counts, n_completions = dict.fromkeys(PREFERENCE_SPLITS, 0), 0
        with writing_splits(folder, PREFERENCE_SPLITS) as outputs:
            for split, ranking in self._assigned(skipped):
                if not known.add(ranking.digest):
                    n_duplicates += 1
                    continue
                outputs[split].write(ranking.to_line())
                counts[split] += 1
                n_completions += len(ranking.completions)
                if progress:
                    progress.advance(1)
        return {
            "splits": counts,
            "completions": n_completions,
            "duplicates": n_duplicates,
            **skipped.to_dict(),
            "validation_fraction": self.validation_fraction,
            "test_fraction": self.test_fraction,
        }

    def _assigned(self, skipped: RowReport) -> Iterator[tuple[str, Ranking]]:
        """(split, ranking) of everything that is read or generated."""
        if isinstance(self.source, GeneratedSource):
            if self.source.held_out:
                yield from (("test", ranking) for ranking in self.source.held_out())
            rankings: Iterable[Ranking] = self.source.generate()
        else:
            rankings = _read(self.source, skipped)
        for ranking in rankings:
            yield split_of(ranking.prompt_digest, self.validation_fraction, self.test_fraction), ranking


def _read(paths: Sequence[str], skipped: RowReport) -> Iterator[Ranking]:
    for path in paths:
        empty = True
        for _, ranking in read_preferences(path, skipped):
            empty = False
            yield ranking
        if empty:
            raise UserError(
                f"{path}: no preferences found{skipped.reasons()}",
                "give rows such as those of docs/rows.md",
            )


def _widened(fractions: dict[str, float], n: dict[str, int]) -> dict[str, float] | None:
    """Twice the fraction of each requested split that is empty; None where there is none, or the limit is reached."""
    wider = {
        name: max(fraction, min(MAX_FRACTION, 2 * fraction))
        if not n[name.removesuffix("_fraction")]
        else fraction
        for name, fraction in fractions.items()
    }
    return wider if wider != fractions else None


def _check_filled(report: JsonObject, requested: dict[str, float]) -> None:
    n = report["splits"]
    fractions = {
        "train": 1.0,
        "validation": requested["validation_fraction"],
        "test": requested["test_fraction"],
    }
    for split, fraction in fractions.items():
        if fraction and not n[split]:
            raise UserError(
                f"{sum(n.values())} different preferences leave {split} empty",
                "give more of them, or set its fraction to 0",
            )
