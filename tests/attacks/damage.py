"""Damaged files: `python -m tests.attacks.damage --n 300 --seed 0`.

One file of a folder that Parakit wrote (a model, an adapter, a tokenizer, a corpus, conversations, preferences, shards, an
interrupted run) is deleted, emptied, cut at a random byte, or one of its bits is flipped; then a command reads the folder. It
must refuse, naming the file (or its folder, where the file is gone), or end with the result of the undamaged folder. A
traceback, another result, or a refusal without a name is a violation. Prints a JSON object for each kind of folder and one for
all; status 1 after a violation.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from parakit.cli.main import main as parakit
from parakit.common.files import sha256_file
from parakit.common.seeds import rng
from parakit.training.metrics import MetricsLog
from tests.attacks.forked import Outcome, forked
from tests.attacks.training_inputs import command_of, make_inputs

DAMAGES = ("delete", "empty", "cut", "flip")
KILLED_AT = 8  # of 12 steps, a checkpoint at every third


@dataclass(frozen=True)
class Target:
    """A kind of folder: `make` puts a fresh one at a path, `read` is the command that reads it, `result` what it makes."""

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], list[str]]
    result: Callable[[Path, Outcome], str]


@dataclass
class Damaged:
    """What came of the damages of one kind of folder."""

    target: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def targets(inputs: dict[str, Path]) -> list[Target]:
    """Every kind of folder, with a quick command that reads all of it."""

    def copy(name: str) -> Callable[[Path], object]:
        return lambda path: shutil.copytree(inputs[name], path)

    def printed(_: Path, outcome: Outcome) -> str:
        return outcome.printed.splitlines()[-1] if outcome.printed else ""

    def written(path: Path, _: Outcome) -> str:
        out = path.parent / "out"
        kept = [file for file in sorted(out.rglob("*")) if file.suffix in (".bin", ".npy", ".safetensors")]
        return " ".join(f"{file.name}:{sha256_file(file)[:16]}" for file in kept)

    generate = ["How do I", "--max-new-tokens", "6", "--temperature", "0"]
    model = str(inputs["model"])

    def encode(tokenizer: str, source: str) -> Callable[[Path], list[str]]:
        return lambda path: [
            *("tokenizer", "encode", tokenizer.format(path=path), source.format(path=path)),
            *("--output", str(path.parent / "out")),
        ]

    def interrupted(path: Path) -> None:
        path.mkdir(parents=True)
        shutil.copytree(inputs["interrupted"], path / ".out.work")

    def resume(path: Path) -> list[str]:
        return command_of("pretrain", inputs, path / "out")

    return [
        Target("model", copy("model"), lambda path: ["generate", str(path), *generate], printed),
        Target("adapter", _adapter(inputs), lambda path: ["generate", str(path), *generate], printed),
        Target("tokenizer", copy("tokenizer"), encode("{path}", str(inputs["corpus"])), written),
        Target("corpus", copy("corpus"), encode(model, "{path}"), written),
        Target("conversations", copy("conversations"), encode(model, "{path}"), written),
        Target("shards", copy("shards"), lambda path: _pretrain(inputs, path), written),
        Target("preferences", copy("preferences"), lambda path: _dpo(inputs, path), written),
        Target("interrupted run", interrupted, resume, lambda path, outcome: _weights(path / "out")),
    ]


def _adapter(inputs: dict[str, Path]) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        shutil.copytree(inputs["adapter"], path)
        if not (path.parent / "model").exists():
            shutil.copytree(inputs["model"], path.parent / "model")  # which it names by a relative path

    return make


def _pretrain(inputs: dict[str, Path], shards: Path) -> list[str]:
    return [*command_of("pretrain", inputs | {"shards": shards}, shards.parent / "out"), "--max-steps", "2"]


def _dpo(inputs: dict[str, Path], preferences: Path) -> list[str]:
    return [
        *command_of("dpo", inputs | {"pairs": preferences}, preferences.parent / "out"),
        "--max-steps",
        "1",
    ]


def _weights(model: Path) -> str:
    return sha256_file(model / "model.safetensors") if model.exists() else "nothing"


def interrupted_run(inputs: dict[str, Path], folder: Path) -> Path:
    """The working folder of a pre-training run that was killed."""

    def child() -> int:
        log = MetricsLog.write_step

        def log_then_die(metrics: MetricsLog, record: object, *rest: object) -> None:
            log(metrics, record, *rest)  # type: ignore[arg-type]
            if record.step == KILLED_AT:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

        MetricsLog.write_step = log_then_die  # type: ignore[method-assign]
        return parakit(command_of("pretrain", inputs, folder / "out"))

    outcome = forked(child)
    assert outcome.status == 130, outcome.printed
    return folder / ".out.work"


def damage(file: Path, how: str, generator: np.random.Generator) -> str:
    """Damage a file; returns what was done, in words."""
    content = bytearray(file.read_bytes())
    if how == "delete":
        file.unlink()
        return how
    if how == "flip" and content:
        place, bit = int(generator.integers(len(content))), int(generator.integers(8))
        content[place] ^= 1 << bit
        file.write_bytes(content)
        return f"flip bit {bit} of byte {place}"
    size = int(generator.integers(len(content))) if how == "cut" and content else 0
    file.write_bytes(content[:size])
    return f"cut to {size} bytes"


def try_one(
    target: Target, folder: Path, file_number: int, how: str, generator: np.random.Generator
) -> tuple[str, str]:
    """Damage one file of a fresh folder and read it; returns the outcome and what was done."""
    path = folder / "damaged"
    target.make(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    file = files[file_number % len(files)]
    done = f"{target.name}: {file.relative_to(path)}: {damage(file, how, generator)}"
    outcome = forked(lambda: parakit(target.read(path)))
    result = target.result(path, outcome)
    reference = (folder / "reference").read_text()
    names = {file.name, file.parent.name} if how == "delete" else {file.name}
    if outcome.crashed or outcome.status < 0:
        verdict = "crashed"
    elif outcome.status == 0:
        warned = any(name in outcome.printed for name in names)
        verdict = (
            "recovered"
            if warned and result == reference
            else "unaffected"
            if result == reference
            else "other result"
        )
    elif any(name in outcome.printed for name in names):
        verdict = "refused"
    else:
        verdict = "refused without a name"
    if verdict in ("crashed", "other result", "refused without a name"):
        return verdict, f"{done}: {verdict}: {outcome.printed[-700:]}"
    return verdict, done


def attack(target: Target, folder: Path, n_cases: int, seed: int) -> Damaged:
    """`n_cases` damages of one kind of folder: each file and each way of damage in turn, at random places."""
    found, generator = Damaged(target.name), rng(seed, "damage", target.name)
    folder.mkdir(parents=True)
    path = folder / "damaged"
    target.make(path)
    n_files = sum(one.is_file() for one in path.rglob("*"))
    outcome = forked(lambda: parakit(target.read(path)))
    assert outcome.status == 0, outcome.printed
    (folder / "reference").write_text(target.result(path, outcome))
    pairs = [(number, how) for number in range(n_files) for how in DAMAGES]
    order = generator.permutation(len(pairs))
    for case in range(n_cases):
        for left in ("damaged", "out", ".out.work"):
            shutil.rmtree(folder / left, ignore_errors=True)
        number, how = pairs[order[case % len(pairs)]]
        verdict, text = try_one(target, folder, number, how, generator)
        found.cases += 1
        found.outcomes[verdict] += 1
        if verdict not in ("refused", "recovered", "unaffected"):
            found.violations.append(text)
    return found


def main() -> int:
    """Damage files and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=80, help="damages, spread over the kinds of folders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=None)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="parakit-damage-"))
    inputs = make_inputs(folder / "inputs")
    for name in ("pretrain", "dpo"):  # the children have its imports
        assert parakit(command_of(name, inputs, folder / "warm" / name)) == 0
    inputs["interrupted"] = interrupted_run(inputs, folder / "interrupted")
    kinds = [one for one in targets(inputs) if arguments.kinds is None or one.name in arguments.kinds]
    all_found = []
    for number, target in enumerate(kinds):
        n_cases = arguments.n // len(kinds) + (number < arguments.n % len(kinds))
        found = attack(target, folder / target.name.replace(" ", "-"), n_cases, arguments.seed)
        all_found.append(found)
        print(json.dumps(vars(found)), flush=True)
    outcomes = sum((found.outcomes for found in all_found), Counter())
    violations = sum(len(found.violations) for found in all_found)
    print(
        json.dumps({"target": "all", "cases": arguments.n, "outcomes": outcomes, "violations": violations}),
        flush=True,
    )
    if not violations and arguments.folder is None:
        shutil.rmtree(folder)
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
