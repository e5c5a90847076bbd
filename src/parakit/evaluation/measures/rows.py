"""The rows of a measure from local files, the choice of some of them, and the protocol that a result belongs to."""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.results import PROGRAM, Protocol, digest

T = TypeVar("T")


def find_file(given: MeasureInput, task: str, *names: str) -> Path:
    """The first of the files `names`, relative to the folder of data, that is there; `UserError` for none."""
    if given.data is None:
        raise UserError(f"{task} reads {names[0]} from a folder of data", "name the folder: --data FOLDER")
    found = next((given.data / name for name in names if (given.data / name).is_file()), None)
    if found is None:
        raise UserError(
            f"{task}: {given.data} has no {names[0]}", "put it there, or name another folder with --data"
        )
    return found


def read_rows(path: Path, required: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines (.jsonl, .jsonl.gz), or of every such file in a .tar.gz.

    `UserError` with file and line for what is no object, or lacks one of `required`.
    """
    try:
        return [_row(line, where, required) for where, line in _lines(path)]
    except (OSError, EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}", "fetch the file again") from None


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    if path.name.endswith((".tar.gz", ".tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                packed = archive.extractfile(member) if member.name.endswith(".jsonl") else None
                if packed is not None:
                    yield from _numbered(packed, f"{path.name}/{member.name}")
        return
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from _numbered(file, path.name)


def _numbered(file: Iterable[bytes], name: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield f"{name}, line {number}", line.decode("utf-8-sig" if number == 1 else "utf-8")


def _row(line: str, where: str, required: Sequence[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: is not JSON: {error}", "correct or remove the line") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: is {type(row).__name__}, not an object", "correct or remove the line")
    missing = [key for key in required if key not in row]
    if missing:
        raise UserError(f"{where}: has no {missing[0]!r}", f"every row needs {', '.join(required)}")
    return row


def draw(
    rows: Sequence[T], given: MeasureInput, task: str, group: Callable[[T], str] | None = None
) -> list[T]:
    """At most `given.n_items` of the rows, drawn by the seed, in their order; equally many of each group, or as nearly as
    it goes.
    """
    if given.n_items is None or given.n_items >= len(rows):
        return list(rows)
    if given.n_items < 1:
        raise UserError(f"{given.n_items} items of {task}", "take at least 1")
    order = rng(given.seed, "items", task).permutation(len(rows)).tolist()
    if group is not None:
        places: dict[str, int] = {}

        def turn(i: int) -> int:
            name = group(rows[i])
            places[name] = places.get(name, -1) + 1
            return places[name]

        order = [i for _, i in sorted([(turn(i), i) for i in order], key=lambda pair: pair[0])]
    return [rows[i] for i in sorted(order[: given.n_items])]


def protocol(
    task: str,
    given: MeasureInput,
    data: Iterable[object],
    prompts: Iterable[str],
    *,
    version: str = "1",
    n_shots: int = 0,
    chat: bool | None = None,
    split: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Protocol:
    """The protocol of a result. `chat` is False for measures of plain texts that nothing precedes."""
    return Protocol(
        task=task,
        version=version,
        program=PROGRAM,
        data_digest=digest(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str) for row in data),
        prompts_digest=digest(prompts),
        n_shots=n_shots,
        system_prompt=given.system_prompt if chat is None else None,
        prompting="chat" if (given.chat if chat is None else chat) else "plain",
        split=split,
        settings=dict(settings or {}),
    )
