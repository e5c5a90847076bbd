"""Files of benchmark data in the layouts that are read."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def write_archive(path: Path, files: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def mmlu_csv(n: int, first: int = 0) -> str:
    lines = [
        f"How many birds are there in {i + first}?,one,two,three,four,{(i + first) % 4}" for i in range(n)
    ]
    return "question,choice0,choice1,choice2,choice3,answer\n" + "\n".join(lines) + "\n"
