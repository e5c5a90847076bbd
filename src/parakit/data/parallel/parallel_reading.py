"""Reading files in parts: each task reads some files in a row and writes their documents and reports; then the parts are
read back in the order of the files, as if they had been read one after the other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import write_json_atomic
from parakit.common.hardware import parakit_version
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.parallel.task_runner import TaskRunner
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_file
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.inputs import check_paths, input_files

PART_BYTES, PART_FILES = 32 * 2**20, 2_000


class PartReader:
    """`read_file` for files that the tasks of `runner` have read."""

    def __init__(self, config: TextConfig, runner: TaskRunner) -> None:
        """Read all files of `config`. Parts that an earlier run over the same files has finished are not read again."""
        files = _all_files(config)
        sizes = [_size(file) for file in files]
        parts = _parts(sizes)
        _forget_other_runs(runner.folder, config, files, sizes)
        runner.run("read", partial(read_part, runner.folder, config, files, parts), len(parts) - 1)
        self._sources = [file.source for file in files]
        self._lines = _lines(runner.folder, len(parts) - 1)
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


def read_part(
    folder: Path, config: TextConfig, files: Sequence[InputFile], parts: Sequence[int], number: int
) -> None:
    """Read the files of one part: for each its documents, then its report."""
    path = _path(folder, number)
    with open(path.with_suffix(".new"), "w", encoding="utf-8", newline="\n") as out:
        for file in files[parts[number] : parts[number + 1]]:
            report, error = ReadReport(), None
            try:
                for document in read_file(file, config, report):
                    values = {"text": document.text, "source": document.source, "n_bytes": document.n_bytes}
                    out.write(json.dumps(values | {"n_files": report.files}) + "\n")
            except UserError as raised:
                error = [raised.message, raised.hint]
            out.write(json.dumps({"report": report.to_json(), "error": error}) + "\n")
    path.with_suffix(".new").replace(path)


def _all_files(config: TextConfig) -> list[InputFile]:
    """The files in the order in which they are read."""
    seen = DigestSet()
    files: list[InputFile] = []
    groups = [one.paths for one in config.sources] or [config.paths]
    for paths in (config.validation_paths, *groups):
        check_paths(paths)
        for path in paths:
            files += input_files(path, config, ReadReport(), seen)
    return files


def _parts(sizes: Sequence[int]) -> list[int]:
    """The first file of each part, and the number of files: parts depend on the files alone, not on the workers."""
    firsts, n_bytes = [0], 0
    for number, size in enumerate(sizes):
        if number > firsts[-1] and (n_bytes + size > PART_BYTES or number - firsts[-1] >= PART_FILES):
            firsts.append(number)
            n_bytes = 0
        n_bytes += size
    return [*firsts, len(sizes)]


def _size(file: InputFile) -> int:
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
        changed = file.path.stat().st_mtime_ns if file.path.exists() else 0
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
    return folder / f"read-{number:05d}.jsonl"
