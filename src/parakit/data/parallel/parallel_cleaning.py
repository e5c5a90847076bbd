"""Cleaning documents in parts, by steps that look at one text at a time: each task cleans a range of the rows."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from parakit.data.cleaning.chain import CleaningChain
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.step_report import StepReport
from parakit.data.collected import read_rows
from parakit.data.documents import Document
from parakit.data.parallel.task_runner import TaskRunner

PART_BYTES = 16 * 2**20


def clean_in_parts(
    path: Path, configs: Sequence[StepConfig], runner: TaskRunner
) -> tuple[list[list[StepReport]], Iterator[tuple[int, Document]]]:
    """What the steps of `configs` leave of the rows in the file `path`, in their order; before it the reports of the steps
    for each part.
    """
    ends, digest = _parts(path)
    digest.update(json.dumps([config.model_dump(mode="json") for config in configs]).encode())
    name = f"clean-{digest.hexdigest()[:16]}"
    folder = runner.folder / name
    folder.mkdir(exist_ok=True)
    runner.run(name, partial(clean_part, folder, path, tuple(configs), tuple(ends)), len(ends) - 1)
    reports = [
        [
            StepReport.from_json(one)
            for one in json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))
        ]
        for number in range(len(ends) - 1)
    ]
    return reports, _rows(folder, len(ends) - 1)


def clean_part(
    folder: Path, path: Path, configs: Sequence[StepConfig], ends: Sequence[int], number: int
) -> None:
    """Clean the rows from one end to the next."""
    rows = folder / f"{number}.rows"
    with open(path, "rb") as file, open(rows, "wb") as out:
        file.seek(ends[number])
        out.write(file.read(ends[number + 1] - ends[number]))
    steps = folder / f"{number}.steps"
    shutil.rmtree(steps, ignore_errors=True)  # of a task that was killed
    chain = CleaningChain(configs, steps)
    chain.run(rows)
    shutil.rmtree(steps)
    new = folder / f"{number}.new"
    reports = [report.to_json() for report in chain.step_reports()]
    new.write_text(json.dumps(reports), encoding="utf-8")
    new.replace(folder / f"{number}.json")


def _parts(path: Path) -> tuple[list[int], hashlib._Hash]:
    """Where the parts of a file begin and end, in bytes, each at the end of a row; and the digest of all bytes."""
    digest, ends = hashlib.sha256(), [0]
    with open(path, "rb") as file:
        while block := file.read(PART_BYTES):
            block += file.readline()
            digest.update(block)
            ends.append(ends[-1] + len(block))
    return ends, digest


def _rows(folder: Path, n_parts: int) -> Iterator[tuple[int, Document]]:
    for number in range(n_parts):
        yield from read_rows(folder / f"{number}.rows")
