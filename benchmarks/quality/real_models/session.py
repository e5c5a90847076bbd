"""The folders that the rows of `real_models` share, and how a command is run and read."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.real_models.data import (
    Rows,
    find_source,
    instructions,
    pairs,
    read_lines,
    write_lines,
)
from benchmarks.quality.real_models.peers import BETAS, N_STEPS
from benchmarks.registry import Figures

NO_RATE = 1e-12  # leaves the initial weights as they were drawn
N_CONVERSATIONS, N_PAIRS = 8, 5


@dataclass
class Session:
    """A folder with the imported models, and the seconds that commands took in it."""

    folder: Path
    data: Path
    seconds: float = 0.0

    def run(self, *words: str | Path, stdin: str = "", may_fail: bool = False) -> tuple[str, str]:
        """stdout and stderr of `parakit WORDS`; an exit status that is not 0 raises, unless it is 1 and `may_fail`."""
        from parakit.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        started, before = time.perf_counter(), sys.stdin
        sys.stdin = io.StringIO(stdin)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main([str(word) for word in words])
        except SystemExit as unparsed:  # arguments that the command does not have
            status = int(unparsed.code or 0) or 2
        finally:
            sys.stdin = before
        self.seconds += time.perf_counter() - started
        if status and not (may_fail and status == 1):
            raise RuntimeError(
                f"parakit {' '.join(map(str, words))}: status {status}\n{err.getvalue()[-2000:]}"
            )
        return out.getvalue(), err.getvalue()

    def figures(self, *words: str | Path) -> Figures:
        """The JSON object that a command prints with --json."""
        found: Figures = json.loads(self.run(*words, "--json")[0])
        return found

    def train(self, *words: str | Path, learning_rate: float, output: str) -> list[float]:
        """The loss of each step of a training command, to `output`."""
        settings = [
            "--optimizer",
            "adamw",
            "--schedule",
            "constant",
            "--warmup-steps",
            "0",
            "--adam-betas",
            *BETAS,
        ]
        settings += ["--precision", "float32", "--compile", "off", "--device", "cpu"]
        settings += [
            "--max-steps",
            1 if learning_rate == NO_RATE else N_STEPS,
            "--learning-rate",
            learning_rate,
        ]
        place = self.folder / output
        found = self.figures(*words, *map(str, settings), "--output", place, "--overwrite")
        return [row["loss"] for row in found["metrics"] if row["kind"] == "step"]

    def model(self, name: str) -> Path:
        """The imported model, imported at first use."""
        place = self.folder / name
        if not place.exists():
            self.run("import", find_source(name), "--output", place)
        return place

    def conversations(self) -> tuple[Path, Rows]:
        """A folder of conversations, and its rows for training."""
        return self._prepared("conversations", instructions(self.data)[:N_CONVERSATIONS])

    def preferences(self) -> tuple[Path, Rows]:
        """A folder of short pairs, and those of its pairs that are for training."""
        folder, rows = self._prepared("preferences", pairs(self.data, N_PAIRS))
        return folder, [
            {"prompt": row["prompt"], "chosen": row["ranking"][0], "rejected": row["ranking"][1]}
            for row in rows
        ]

    def _prepared(self, kind: str, rows: Rows) -> tuple[Path, Rows]:
        place = self.folder / kind
        if not place.exists():
            file = write_lines(self.folder / f"{kind}.jsonl", rows)
            fractions = ["--validation-fraction", "0.2"]
            fractions += ["--test-fraction", "0"] if kind == "preferences" else []
            self.run("text", file, f"--{kind}", *fractions, "--output", place)
        return place, read_lines(place / "train.jsonl")

    def book(self) -> Path:
        """Token shards of a book, by the model's tokenizer."""
        corpus, shards = self.folder / "corpus", self.folder / "shards"
        if not shards.exists():
            text = self.data / "gutenberg" / "The-Adventures-of-Sherlock-Holmes_1661.txt.gz"
            self.run("text", text, "--max-document-chars", "2000", "--output", corpus)
            self.run("tokenizer", "encode", self.model("smollm2"), corpus, "--output", shards)
        return shards

    def remove(self, *names: str) -> None:
        """Remove what a row wrote: a copy of the model takes half a gigabyte."""
        for name in names:
            shutil.rmtree(self.folder / name, ignore_errors=True)


def compared(found: list[float], expected: list[float], by: str) -> Figures:
    """Losses of both sides, and their largest difference; raises where their numbers differ."""
    differences = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    return {
        "against": by,
        "losses": found,
        "losses_of_peer": expected,
        "largest_difference": max(differences),
    }


def tensors_of(folder: Path) -> dict[str, Any]:
    """Every tensor of a folder's model.safetensors by name."""
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(folder / "model.safetensors")
    return found
