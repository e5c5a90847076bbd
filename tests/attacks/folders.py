"""Attack: planted, damaged and fuzzed folders through show, import, generate, predict, merge, export, tokenizer.

Every case takes a valid tiny folder, damages one of its files (a value of its JSON, some bytes, the whole file), and
gives it to a command. What must hold: the command ends by itself with status 0 or with a message and status 2; no
traceback, no program started, no socket opened, nothing unpickled, no more than the budget of time and memory.

    python -m tests.attacks.folders --n 2000 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.attacks.isolated import Outcome, main_of, run
from tests.attacks.planted import FOLDERS, Planted
from tests.attacks.samples import make_samples

# Values that readers of a JSON file have to expect; {} and [] also stand for a value of another kind.
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        7,
        2**31,
        2**63,
        -(2**63),
        10**400,
        0.0,
        0.5,
        -0.5,
        1e-320,
        1e308,
        -1e308,
    ),
    *(
        float("nan"),
        float("inf"),
        float("-inf"),
        "",
        " ",
        "a",
        "1",
        "true",
        "null",
        "nan",
        "x" * 300,
        "../../etc/passwd",
    ),
    *(
        "/etc/passwd",
        "/dev/zero",
        "\ud800",
        "\x00",
        "a\nb",
        "\u202e",
        "{}",
        "<s>",
        "http://127.0.0.1:9/x",
        "hub:a/b",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        [0],
        ["a"],
        [1, "a"],
        {"a": 1},
        {"": None},
        {"content": 3},
        [{}],
        [[0, 1]],
        {"0": "a"},
    ),
)
MODEL_COMMANDS = ("show", "show", "show --json", "import", "generate", "export", "tokenizer")
COMMANDS: dict[str, Sequence[str]] = {
    **dict.fromkeys(("decoder", "published_decoder"), MODEL_COMMANDS),
    **dict.fromkeys(("masked", "published_masked", "classifier"), ("show", "import", "predict")),
    **dict.fromkeys(("embedder", "published_embedder"), ("show", "import", "predict")),
    **dict.fromkeys(("adapter", "published_adapter"), ("show", "show --json", "merge", "generate")),
    "tokenizer": ("show", "tokenizer"),
}
JSON_SUFFIXES = (".json", ".jsonl")


def command(name: str, folder: Path, out: Path) -> list[object]:
    """The arguments of a command on `folder`, which writes to `out` where it writes."""
    quick = ["--max-new-tokens", 2, "--device", "cpu"]
    return {
        "show": ["show", folder, "--no-verify"],
        "show --json": ["show", folder, "--json"],
        "import": ["import", folder, "--output", out],
        "generate": ["generate", folder, "the bird", *quick],
        "predict": ["predict", folder, "the bird <mask>"],
        "merge": ["merge", folder, "--output", out],
        "export": ["export", folder, "--output", out],
        "tokenizer": ["tokenizer", "encode", folder, "the bird"],
    }[name]


def damage(folder: Path, dice: random.Random) -> str:
    """Damage one file of `folder`; what was done."""
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and p.name not in ("README.md", "manifest.json")
    )
    weights = [1 if file.suffix in JSON_SUFFIXES else 0.3 for file in files]
    file = dice.choices(files, weights)[0]
    name = file.relative_to(folder).as_posix()
    with contextlib.suppress(ValueError, RecursionError):  # damaged before
        if file.suffix in JSON_SUFFIXES and dice.random() < 0.85:
            return f"{name}: {_damage_json(file, dice)}"
        if file.suffix == ".safetensors" and dice.random() < 0.7:
            return f"{name}: {_damage_header(file, dice)}"
    return f"{name}: {_damage_bytes(file, dice)}"


def _damage_json(file: Path, dice: random.Random) -> str:
    lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    i = dice.randrange(len(lines))
    value, what = _changed(json.loads(lines[i]), dice)
    lines[i] = json.dumps(value)
    if dice.random() < 0.02:
        lines[i], what = "[" * 100_000, "100,000 brackets"
    file.write_text("\n".join(lines) + "\n")
    return what


def _changed(value: Any, dice: random.Random) -> tuple[Any, str]:
    """`value` with one place changed, and what was changed."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.05:
        new = dice.choice(VALUES)
        return new, f"= {_shown(new)}"
    if isinstance(value, list):
        i = dice.randrange(len(value))
        changed, what = _changed(value[i], dice)
        return [*value[:i], changed, *value[i + 1 :]], f"[{i}]{what}"
    key = dice.choice(sorted(value))
    kind = dice.random()
    if kind < 0.12:
        return {k: v for k, v in value.items() if k != key}, f".{key} removed"
    if kind < 0.17:
        new = dice.choice(VALUES)
        return value | {dice.choice(("auto_map", "x", "", key + "s")): new}, f" has a new key = {_shown(new)}"
    changed, what = _changed(value[key], dice)
    return value | {key: changed}, f".{key}{what}"


def _shown(value: Any) -> str:
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**30 else "a large integer"
    return text if len(text) < 60 else text[:57] + "..."


def _damage_header(file: Path, dice: random.Random) -> str:
    data = file.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header, what = _changed(json.loads(data[8 : 8 + n]), dice)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + n :])
    return f"header {what}"


def _damage_bytes(file: Path, dice: random.Random) -> str:
    data = bytearray(file.read_bytes())
    kind = dice.choice(("cut", "flip", "insert", "empty", "zeros", "repeat"))
    at = dice.randrange(len(data) + 1)
    if kind == "cut":
        del data[at:]
    elif kind == "flip" and data:
        for _ in range(dice.choice((1, 4, 64))):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif kind == "insert":
        data[at:at] = dice.randbytes(dice.choice((1, 8, 300)))
    elif kind == "empty":
        data.clear()
    elif kind == "zeros":
        data[at : at + 64] = bytes(64)
    else:
        data *= 2
    file.write_bytes(bytes(data))
    return kind


def reseal(folder: Path) -> None:
    """Write the manifest again, as somebody who plants a folder can: the damage is then no mismatch of sums."""
    manifest = folder / "manifest.json"
    if manifest.is_file():
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        files = {
            name: {
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
                "size": (folder / name).stat().st_size,
            }
            for name in names
            if name != "manifest.json"
        }
        manifest.write_text(json.dumps({"files": files}))


def fuzz(samples: dict[str, Path], work: Path, seed: int) -> tuple[str, Outcome]:
    """One case: a description, and how it ended."""
    dice = random.Random(seed)
    kind = dice.choice(sorted(name for name in samples if name != "build"))
    folder = work / "folder"
    shutil.copytree(samples[kind], folder)
    if kind.endswith("adapter"):  # its base is named by a relative path
        shutil.copytree(samples["decoder"], work / "decoder")
    what = "; ".join(damage(folder, dice) for _ in range(dice.choice((1, 1, 1, 2, 4))))
    if dice.random() < 0.85:
        reseal(folder)
    name = dice.choice(COMMANDS.get(kind, ("show", "show --json")))
    case = main_of(command(name, folder, work / "out"))
    outcome = run(case, folder)
    leftovers = [p.name for p in work.iterdir() if p.name.startswith(".")]
    if leftovers and not outcome.fault:
        outcome = Outcome(outcome.status, f"left behind: {leftovers}", *_rest(outcome))
    return f"{kind}: {name}: {what}", outcome


def _rest(outcome: Outcome) -> tuple[float, float, str]:
    return outcome.seconds, outcome.megabytes, outcome.output


def plant(one: Planted, name: str, samples: dict[str, Path], work: Path) -> Outcome:
    """How a command ends that meets a planted folder; a fault where it accepts what is to be refused."""
    folder = work / "folder"
    shutil.copytree(samples[one.kind], folder)
    shutil.copytree(samples["decoder"], work / "decoder")
    one.change(folder)
    outcome = run(main_of(command(name, folder, work / "out")), folder)
    if not outcome.fault and outcome.status != (0 if one.accepted else 2):
        return Outcome(outcome.status, f"status {outcome.status}", *_rest(outcome))
    return outcome


def planted_sweep(samples: dict[str, Path], planted: Sequence[Planted] = FOLDERS) -> dict[str, Any]:
    """Every planted folder through its commands."""
    n, faults, slowest, largest = 0, [], (0.0, ""), (0.0, "")
    for one in planted:
        for name in one.commands:
            n += 1
            with tempfile.TemporaryDirectory(prefix="parakit-planted-") as work:
                outcome = plant(one, name, samples, Path(work))
            slowest = max(slowest, (round(outcome.seconds, 2), f"{one.name}: {name}"))
            largest = max(largest, (round(outcome.megabytes), f"{one.name}: {name}"))
            if outcome.fault:
                faults.append(f"{one.name}: {name}\n    {outcome.fault}\n    {outcome.output[-300:]}")
    return {"n": n, "slowest": slowest, "largest": largest, "faults": faults}


def sweep(samples: dict[str, Path], n: int, seed: int = 0, verbose: bool = False) -> dict[str, Any]:
    """`n` cases from `seed` on: how many were refused and accepted, the slowest, and every fault."""
    with tempfile.TemporaryDirectory(prefix="parakit-attack-") as root:
        ends: Counter[str] = Counter()
        faults, slowest, largest = [], (0.0, ""), (0.0, "")
        for i in range(seed, seed + n):
            work = Path(root) / "work"
            work.mkdir()
            what, outcome = fuzz(samples, work, i)
            shutil.rmtree(work)
            ends[
                "fault" if outcome.fault else "refused" if outcome.refused else f"status {outcome.status}"
            ] += 1
            slowest = max(slowest, (round(outcome.seconds, 2), f"{i}: {what}"))
            largest = max(largest, (round(outcome.megabytes), f"{i}: {what}"))
            if outcome.fault or outcome.status not in (0, 2):
                faults.append(f"{i}: {what}\n    {outcome.fault or outcome.output[-300:]}")
                if verbose:
                    print(faults[-1], flush=True)
    return {"n": n, "ends": dict(ends), "slowest": slowest, "largest": largest, "faults": faults}


def main() -> int:
    """Run the sweep; 1 where anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="parakit-samples-") as root:
        with contextlib.redirect_stdout(sys.stderr):
            samples = make_samples(Path(root))
        planted = planted_sweep(samples)
        print(*planted["faults"], sep="\n", flush=True)
        fuzzed = sweep(samples, given.n, given.seed, verbose=True)
    for name, result in (("planted", planted), ("fuzzed", fuzzed)):
        print(json.dumps({"attack": name} | result | {"faults": len(result["faults"])}))
    return 1 if planted["faults"] or fuzzed["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
