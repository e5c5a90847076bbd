"""Damaged and hostile documents: `python -m tests.attacks.documents --n 1000 --seed 0`.

Documents and archives of every format have one to four places changed, and some are hostile as they are: bombs, names that
leave the archive, deep nesting, entities. Each is read in a folder next to a good file, a batch in a child process of bounded
memory. The good file must be read, and what is wrong with the other must be in the report; an exception, a signal, a file
written outside, or over `--seconds` for one file is a violation. Prints one JSON object; status 1 after a violation.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow
from pyarrow import feather, parquet

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from tests.attacks.forked import forked
from tests.attacks.row_files import damage
from tests.data.document_builders import mail, office, plain
from tests.data.readers.test_data_readers_containers import COMPRESSORS, PACKERS
from tests.data.readers.test_data_readers_crawls import RECORDS
from tests.data.readers.test_data_readers_web import write_epub
from tests.data.web_pages import make_page

GOOD = "a good file with some text in it"
MAX_GROWTH = 3 * 2**30  # bytes of address space that a child may take beyond what it begins with
_TEXTS = ["One paragraph of some words.", "Another one, with <signs> & more: été."]
_BATCH = 50


def whole_files(folder: Path) -> dict[str, bytes]:
    """A valid file of each format by its name; formats whose library is missing are left out."""
    table = pyarrow.table({"text": _TEXTS * 20, "id": range(40)})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    feather.write_feather(table, str(folder / "a.feather"), compression="lz4")
    members = {
        "a.txt": _TEXTS[0].encode(),
        "b/c.md": _TEXTS[1].encode() * 99,
        "d.csv": b"a,text\n1,some text\n",
    }
    files = {f"a.{ending}": pack(members) for ending, pack in PACKERS.items()}
    files |= {f"b.txt.{ending}": pack(_TEXTS[1].encode() * 200) for ending, pack in COMPRESSORS.items()}
    files |= {
        "a.html": make_page(1)[0].encode(),
        "a.xml": b"<?xml version='1.0'?><r><p>Some <b>bold</b> text</p><q>more</q></r>",
        "a.csv": b'a;text\n1;"quoted ""text"", of a row"\n' * 20,
        "a.json": json.dumps([{"body": text * 3} for text in _TEXTS]).encode(),
        "a.warc": b"".join(RECORDS),
        "a.warc.gz": b"".join(COMPRESSORS["gz"](record) for record in RECORDS),
        "a.parquet": buffer.getvalue(),
        "a.feather": (folder / "a.feather").read_bytes(),
        "a.py": b"def f():\n    return 1\n" * 20,
    }
    write_epub(folder / "a.epub", {"a.xhtml": b"<html><body><p>One.</p></body></html>"}, ["a.xhtml"])
    files["a.epub"] = (folder / "a.epub").read_bytes()
    writers: dict[str, Callable[[Path, str, list[str]], str]] = {
        "a.docx": office.write_docx,
        "a.pptx": office.write_pptx,
        "a.xlsx": office.write_xlsx,
        "a.odt": office.write_odt,
        "a.rtf": office.write_rtf,
        "a.eml": mail.write_eml,
        "a.mbox": mail.write_mbox,
        "a.ipynb": plain.write_notebook,
        "a.tex": plain.write_latex,
        "a.srt": plain.write_subtitles,
    }
    for name, write in writers.items():
        try:
            write(folder / name, "A title", _TEXTS)
        except ImportError:
            continue
        files[name] = (folder / name).read_bytes()
    return files


def hostile_files() -> dict[str, bytes]:
    """Files that are made to harm."""
    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(20):
            archive.writestr(f"{i}.txt", b"a" * 4_000_000)
    nested = zeros.getvalue()
    for _ in range(5):
        nested = PACKERS["zip"]({"a.zip": nested})
    names = ["../../up.txt", "/tmp/root.txt", "a/\0b.txt", "x" * 5_000 + ".txt", "C:\\x.txt", "\x1b[2J.txt"]
    return {
        "bomb.zip": zeros.getvalue(),
        "nested.zip": nested,
        "bomb.xz": COMPRESSORS["xz"](b"a" * 50_000_000),
        "bomb.zst": COMPRESSORS["zst"](b"a" * 50_000_000),
        "many.tar.gz": PACKERS["tar.gz"]({f"{i}.txt": b"" for i in range(3_000)}),
        "names.tar": PACKERS["tar"]({name: GOOD.encode() for name in names if "\0" not in name}),
        "laughs.xml": b"<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]><l>&b;</l>",
        "file.xml": b"<!DOCTYPE l [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><l>&a;</l>",
        "deep.xml": b"<a>" * 300_000,
        "deep.html": b"<div>" * 300_000 + b"text",
        "tags.html": b"<b><p>x" * 40_000,
        "open.html": b"<" * 1_000_000,
        "script.html": b"<script>" * 200_000,
        "quote.csv": b'a,text\n1,"' + b"x\n" * 2_000_000,
        "deep.json": b"[" * 500_000,
        "wide.csv": b",".join(b"c%d" % i for i in range(50_000)) + b"\n1\n2\n",
        "long.warc": b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 99999999999\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx",
    }


def attack(content: bytes, name: str, folder: Path) -> tuple[str, float]:
    """Read one file next to a good one: how it ended ("read", "left out", or what is wrong), and the seconds of CPU."""
    for old in folder.iterdir():
        old.unlink()
    (folder / "zz.txt").write_text(GOOD)
    (folder / name).write_bytes(content)
    report, texts = ReadReport(), []
    began = time.process_time()
    try:
        for document in read_documents(TextConfig(paths=(str(folder),)), report):
            texts = [document.text]
    except Exception as error:
        if "rows cannot be read" not in str(error):
            return f"{type(error).__name__}: {error}"[:300], 0.0
        texts = [GOOD]
    seconds = time.process_time() - began
    if texts != [GOOD]:
        return "the good file was not read", seconds
    if {path.name for path in folder.iterdir()} != {"zz.txt", name}:
        return "it wrote a file", seconds
    return ("left out" if report.skipped else "read"), seconds


def run_batch(files: list[tuple[str, bytes]], seconds: float) -> dict[str, object]:
    """Attack with each file in a child of bounded memory; what happened."""

    def work() -> int:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MAX_GROWTH, size + MAX_GROWTH))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        counts, wrong, slowest = Counter[str](), list[str](), 0.0
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files:
                outcome, took = attack(content, name, Path(folder))
                slowest = max(slowest, took)
                if outcome not in ("read", "left out") or took > seconds:
                    wrong.append(f"{name}: {outcome}, {took:.1f} s")
                counts[outcome if outcome in ("read", "left out") else "wrong"] += 1
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        print(json.dumps({"counts": counts, "wrong": wrong, "slowest": slowest, "grown_mib": grown}))
        return 0

    outcome = forked(work)
    lines = [line for line in outcome.printed.splitlines() if line.startswith('{"counts"')]
    if outcome.status or not lines:
        return {"counts": {}, "wrong": [f"a batch ended with {outcome.status}: {outcome.printed[-2000:]}"]}
    return json.loads(lines[-1])


def main() -> None:
    """Attack with the hostile files and `--n` damaged ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    rng, counts, wrong = random.Random(options.seed), Counter[str](), list[str]()
    slowest = grown = 0.0
    with tempfile.TemporaryDirectory() as folder:
        whole = whole_files(Path(folder))
    damaged = []
    for _ in range(options.n):
        name = rng.choice(list(whole))
        damaged.append((name, damage(whole[name], rng)))
    files = [*hostile_files().items(), *damaged]
    for start in range(0, len(files), _BATCH):
        found = run_batch(files[start : start + _BATCH], options.seconds)
        counts.update(found["counts"])  # type: ignore[arg-type]
        wrong += found["wrong"]  # type: ignore[operator]
        slowest = max(slowest, float(str(found.get("slowest", 0))))
        grown = max(grown, float(str(found.get("grown_mib", 0))))
    print(json.dumps({"files": len(files), "counts": counts, "slowest_seconds": round(slowest, 2), "memory_grew_mib": grown,
                      "violations": wrong}))  # fmt: skip
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
