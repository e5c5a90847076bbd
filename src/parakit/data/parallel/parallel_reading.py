"""Reading files in parts: each task reads some files in a row and writes their documents and reports; then the parts are
read back in the order of the files, as if they had been read one after the other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json, write_json_atomic
from parakit.common.hardware import parakit_version
from parakit.common.remote import RemoteFile
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.parallel.task_runner import TaskRunner
from parakit.data.parallel.tasks import own_name, stage_settings, write_result
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_file
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.inputs import check_paths, input_files

STAGE = "read"
PART_BYTES, PART_FILES = 32 * 2**20, 2_000


class PartReader:
    """`read_file` for files that the tasks of `runner` have read."""

    def __init__(self, config: TextConfig, runner: TaskRunner) -> None:
        """Read all files of `config`. Parts that an earlier run over the same files has finished are not read again, but
        for those with a file that could not be read.
        """
        files = all_files(config)
        sizes = [file_size(file) for file in files]
        parts = part_starts(sizes)
        _forget_other_runs(runner.folder, config, files, sizes)
        folder = runner.folder / STAGE
        folder.mkdir(exist_ok=True)
        for number, (first, end) in enumerate(pairwise(parts)):
            write_result(_list_path(folder, number), [_to_json(file) for file in files[first:end]])
        for path in folder.glob("*.unreadable"):  # the drive may be back
            (folder / "done" / path.stem).unlink(missing_ok=True)
            path.unlink()
        runner.run("read", STAGE, config.model_dump(mode="json", exclude_unset=True), len(parts) - 1)
        self._sources = [file.source for file in files]
        self._lines = _lines(folder, len(parts) - 1)
        self._number = 0

    def read(self, file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[Document]:
        """The documents of the next file, counted into `report` (see `read_file`)."""
        if self._number >= len(self._sources) or self._sources[self._number] != file.source:
            raise UserError(f"{file.path}: appeared while the files were read", "run it again")
        self._number += 1
        n_files = report.files
        for values in self._lines:
            if "text" in values:
                report.files = n_files + values["n_files"]
                yield Document(values["text"], values["source"], values["n_bytes"])
                continue
            report.files = n_files
            report.merge(ReadReport.from_json(values["report"]))
            if values["error"]:
                raise UserError(*values["error"])
            return


def read_part(folder: Path, number: int) -> None:
    """Task `number` of the stage in `folder`: read the files of one part; for each its documents, then its report."""
    config = TextConfig.model_validate(stage_settings(folder))
    path = _path(folder, number)
    new, unreadable = own_name(path), False
    with open(new, "w", encoding="utf-8", newline="\n") as out:
        for values in read_json(_list_path(folder, number)):
            file = _from_json(values)
            report, error = ReadReport(), None
            try:
                for document in read_file(file, config, report):
                    row = {"text": document.text, "source": document.source, "n_bytes": document.n_bytes}
                    out.write(json.dumps(row | {"n_files": report.files}) + "\n")
            except UserError as raised:
                error = [raised.message, raised.hint]
            unreadable |= bool(report.skipped["cannot be read"])
            out.write(json.dumps({"report": report.to_json(), "error": error}) + "\n")
    if unreadable:
        path.with_suffix(".unreadable").touch()
    new.replace(path)


def _to_json(file: InputFile) -> JsonObject:
    names = ("source", "format", "compression", "named")
    remote = dataclasses.asdict(file.remote) if file.remote else None
    return {"path": str(file.path), "remote": remote} | {name: getattr(file, name) for name in names}


def _from_json(values: JsonObject) -> InputFile:
    remote = RemoteFile(**values["remote"]) if values["remote"] else None
    return InputFile(**values | {"path": Path(values["path"]), "remote": remote})


def all_files(config: TextConfig) -> list[InputFile]:
    """The files in the order in which they are read."""
    seen = DigestSet()
    files: list[InputFile] = []
    groups = [one.paths for one in config.sources] or [config.paths]
    for paths in (config.validation_paths, *groups):
        check_paths(paths)
        for path in paths:
            files += input_files(path, config, ReadReport(), seen)
    return files


def part_starts(sizes: Sequence[int]) -> list[int]:
    """The first file of each part, and the number of files: parts depend on the files alone, not on the workers."""
    firsts, n_bytes = [0], 0
    for number, size in enumerate(sizes):
        if number > firsts[-1] and (n_bytes + size > PART_BYTES or number - firsts[-1] >= PART_FILES):
            firsts.append(number)
            n_bytes = 0
        n_bytes += size
    return [*firsts, len(sizes)]


def file_size(file: InputFile) -> int:
    """Bytes of a file; 0 where it vanished."""
    try:
        return file.size()
    except OSError:
        return 0


def _forget_other_runs(
    folder: Path, config: TextConfig, files: Sequence[InputFile], sizes: Sequence[int]
) -> None:
    """Empty `folder` where it has parts of another run: of other settings, other files, or files that have changed."""
    digest = hashlib.sha256(f"{parakit_version()} {config.model_dump_json()}".encode())
    for file, size in zip(files, sizes, strict=True):
        changed: object = file.path.stat().st_mtime_ns if file.path.exists() else 0
        changed = file.remote.version if file.remote else changed
        digest.update(f"{file.source}\0{size}\0{changed}\n".encode())
    key = folder / "key.json"
    known = key.read_text() if key.exists() else ""
    if digest.hexdigest() not in known:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json_atomic(key, {"digest": digest.hexdigest()})


def _lines(folder: Path, n_parts: int) -> Iterator[dict]:
    for number in range(n_parts):
        with open(_path(folder, number), encoding="utf-8", newline="\n") as file:
            yield from map(json.loads, file)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number}.jsonl"


def _list_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.files.json"
