"""Cleaning documents in parts, by steps that look at one text at a time: each task cleans a range of the rows."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from parakit.common.files import JsonObject, read_json
from parakit.data.cleaning.chain import CleaningChain
from parakit.data.cleaning.config import CleaningStep
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.step_report import StepReport
from parakit.data.collected import read_rows
from parakit.data.documents import Document
from parakit.data.duplicates.near_duplicates import NearDuplicatesConfig
from parakit.data.parallel.near_duplicate_stages import find_near_duplicates
from parakit.data.parallel.row_parts import read_range, split_rows
from parakit.data.parallel.task_runner import TaskRunner
from parakit.data.parallel.tasks import own_name, stage_settings, write_result


class PartCleaner:
    """Cleans the rows of documents in a file (see `collected`) by the tasks of `runner`; see `InParts`."""

    def __init__(self, runner: TaskRunner) -> None:
        self._runner = runner

    def clean(
        self, path: Path, configs: Sequence[StepConfig], found: Path | None
    ) -> tuple[list[list[StepReport]], Iterator[tuple[int, Document]]]:
        """What the steps leave of the rows of `path`, in their order; before it the reports of the steps for each part.
        The first step may be one over the whole corpus that has found its documents: in the folder `found`.
        """
        parts = split_rows(path)
        settings: JsonObject = {
            "path": str(path.absolute()),
            "steps": [
                config.model_dump(mode="json", exclude_unset=True) | {"step": config.step}
                for config in configs
            ],
            "ends": parts.ends,
            "firsts": parts.firsts,
            "found": str(found.absolute()) if found else None,
        }
        stage = f"clean-{parts.digest}-{_digest(settings['steps'])}"
        folder = self._runner.run("clean", stage, settings, parts.n)
        reports = [
            [StepReport.from_json(one) for one in read_json(folder / f"{number}.json")]
            for number in range(parts.n)
        ]
        return reports, _rows(folder, parts.n)

    def find(self, path: Path, config: StepConfig) -> Path:
        """What `near_duplicates`, the only such step, finds (see `near_duplicate_stages`)."""
        assert isinstance(config, NearDuplicatesConfig)
        return find_near_duplicates(path, config, self._runner)


def clean_part(folder: Path, number: int) -> None:
    """Task `number` of the stage in `folder`: clean the rows from one end to the next."""
    settings = stage_settings(folder)
    configs = TypeAdapter(tuple[CleaningStep, ...]).validate_python(settings["steps"])
    work = own_name(folder / str(number))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    rows = work / "rows"
    with open(rows, "wb") as out:
        out.write(read_range(Path(settings["path"]), *settings["ends"][number : number + 2]))
    found = Path(settings["found"]) if settings["found"] else None
    chain = CleaningChain(configs, work / "steps", found)
    chain.run(rows, first=settings["firsts"][number])
    rows.replace(folder / f"{number}.rows")
    write_result(folder / f"{number}.json", [report.to_json() for report in chain.step_reports()])
    shutil.rmtree(work)


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _rows(folder: Path, n_parts: int) -> Iterator[tuple[int, Document]]:
    for number in range(n_parts):
        yield from read_rows(folder / f"{number}.rows")
