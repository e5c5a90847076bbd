"""The whole chain (read, clean, find duplicates, split), killed at random moments: the corpus has the bytes of an unbroken
run, and nothing half-written is ever under its name.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
N_KILLS = 20
STEPS = (
    "repair_text",
    "repeated_lines",
    "near_duplicates",
    "repeated_passages",
    "quality:rules=c4",
    "personal_data",
)


def write_folder(folder: Path, draw: random.Random) -> None:
    """Files of many sizes, with lines that all have, versions of a text, and addresses."""
    folder.mkdir()
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randrange(2, 10))) for _ in range(3_000)]

    def sentence() -> str:
        return " ".join(draw.choices(words, k=draw.randrange(6, 20))).capitalize() + ". "

    texts = ["".join(sentence() for _ in range(draw.randrange(6, 120))) for _ in range(300)]
    for number in range(400):
        text = draw.choice(texts)
        if number % 3 == 0:  # a version
            parts = text.split()
            parts[draw.randrange(len(parts))] = "changed"
            text = " ".join(parts)
        head = "ACME Corporation - internal use only\n"
        (folder / f"{number:04d}.txt").write_text(f"{head}{text}\nmail: anna{number}@example.org\n")


def start(folder: Path, output: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "parakit", "text", str(folder), "--output", str(output)]
    command += ["--overwrite", "--workers", str(workers), "--clean", *STEPS]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def content(corpus: Path) -> dict[str, bytes]:
    """Every file of a corpus, of its lineage the digest: the rest of it has the time."""
    found = {path.name: path.read_bytes() for path in corpus.iterdir() if path.name != "manifest.json"}
    return found | {"lineage.json": json.loads(found["lineage.json"])["digest"].encode()}


def test_a_corpus_that_is_killed_twenty_times_has_the_bytes_of_an_unbroken_one(tmp_path: Path) -> None:
    draw = random.Random(0)
    write_folder(tmp_path / "in", draw)
    (tmp_path / "out").mkdir()
    begun = time.monotonic()
    assert start(tmp_path / "in", tmp_path / "whole", workers=1).wait() == 0
    seconds = time.monotonic() - begun
    whole = content(tmp_path / "whole")
    assert len(whole["train.jsonl"]) > 100_000  # it is not trivial
    output, n_kills, moments = tmp_path / "out" / "corpus", 0, []
    while n_kills < N_KILLS:
        process = start(tmp_path / "in", output, workers=2)
        moment = draw.uniform(0.05, 1.0) * seconds
        try:
            assert process.wait(moment) == 0
            assert content(output) == whole
            shutil.rmtree(output)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            n_kills += 1
            moments.append(round(moment, 1))
            if output.exists():
                assert content(output) == whole
    assert start(tmp_path / "in", output, workers=2).wait() == 0
    assert content(output) == whole
    assert [path.name for path in output.parent.iterdir()] == ["corpus"], moments
