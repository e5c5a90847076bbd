"""Attack: damaged GGUF files through `parakit import`.

A valid tiny file, which Parakit exported, is damaged: bytes of its header flipped or overwritten, the file cut, a value of its
metadata replaced or removed, a tensor renamed, reshaped, left out, moved or given another kind. What must hold: the command
ends by itself with status 0, or with a message and status 2; no traceback, nothing started, nothing left behind, no more
than the budget of time and memory. Every kind of quantization that Parakit does not read is refused by its name.

    python -m tests.attacks.gguf_files --n 1000 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parakit.checkpoints.gguf.dequantization import BLOCKS, KIND_NAMES
from parakit.checkpoints.gguf.reader import read_gguf
from parakit.checkpoints.gguf.writer import TensorPlan, write_gguf
from tests.attacks.isolated import main_of, run

VALUES: tuple[Any, ...] = (
    *(True, False, 0, 1, 2, 3, 7, 64, 300, 2**31, 2**32 - 1),
    *(0.0, -1.0, 0.5, 1e-30, 1e30, float("nan"), float("inf"), -float("inf")),
    *("", " ", "a", "llama", "gpt2", "none", "x" * 5000, "../../etc/passwd", "\x00", "{{ 1/0 }}", "{% for"),
    *([], [0], [1, 2], [-1], ["a"], ["a", "a"], [""], [0.5], [True], ["x" * 300] * 40),
)
UNREAD = [number for number, name in KIND_NAMES.items() if name not in BLOCKS]
Damage = Callable[[Path, random.Random], str]


def make_sample(folder: Path) -> Path:
    """A valid file of the default shape, in float32."""
    from parakit.compression.gguf_export import export_gguf
    from tests.alignment.tiny_chat_model import chat_model_folder

    chat_model_folder(folder / "model")
    return export_gguf(folder / "model", folder / "sample.gguf", "F32").file


def rewritten(path: Path, metadata: dict[str, Any], plans: list[TensorPlan], data: list[bytes]) -> None:
    """The file with other contents, consistent with each other."""
    import numpy as np

    with open(path, "wb") as file:
        write_gguf(file, metadata, plans, [np.frombuffer(raw, np.uint8) for raw in data])


def contents(path: Path) -> tuple[dict[str, Any], list[TensorPlan], list[bytes]]:
    """Metadata, tensors and their bytes."""
    found, raw = read_gguf(path), path.read_bytes()
    plans = [TensorPlan(t.name, t.shape, t.kind) for t in found.tensors.values()]
    return dict(found.metadata), plans, [raw[t.start : t.stop] for t in found.tensors.values()]


def header_size(path: Path) -> int:
    """Bytes before the first tensor."""
    return min(tensor.start for tensor in read_gguf(path).tensors.values())


def flip(path: Path, dice: random.Random) -> str:
    raw, size = bytearray(path.read_bytes()), header_size(path)
    places = [dice.randrange(size) for _ in range(dice.choice((1, 1, 1, 2, 8)))]
    for place in places:
        raw[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
    path.write_bytes(raw)
    return f"bytes {places}"


def overwrite(path: Path, dice: random.Random) -> str:
    raw, size = bytearray(path.read_bytes()), header_size(path)
    place, number = dice.randrange(size - 8), dice.choice((0, 1, 2**16, 2**31, 2**32, 2**63, 2**64 - 1))
    raw[place : place + 8] = struct.pack("<Q", number)
    path.write_bytes(raw)
    return f"{number} at {place}"


def cut(path: Path, dice: random.Random) -> str:
    raw = path.read_bytes()
    length = dice.randrange(dice.choice((header_size(path), len(raw))))
    path.write_bytes(raw[:length])
    return f"cut at {length}"


def change_metadata(path: Path, dice: random.Random) -> str:
    metadata, plans, data = contents(path)
    key = dice.choice(sorted(metadata))
    value = metadata[key]
    kind = dice.random()
    if kind < 0.15:
        del metadata[key]
        what = f"{key} removed"
    elif kind < 0.25:
        new = key.rpartition(".")[0] + dice.choice((".x", ".scale", ".rope.scaling.type"))
        metadata[new] = dice.choice(VALUES)
        what = f"{new} = {str(metadata[new])[:40]}"
    elif isinstance(value, list) and value and kind < 0.6:
        i = dice.randrange(len(value))
        like = [one for one in VALUES if type(one) is type(value[i])] or [value[0]]
        metadata[key] = [*value[:i], *dice.choice(([], [dice.choice(like)], [value[0]])), *value[i + 1 :]]
        what = f"{key}[{i}]"
    else:
        metadata[key] = dice.choice(VALUES)
        what = f"{key} = {str(metadata[key])[:40]}"
    rewritten(path, metadata, plans, data)
    return what


def change_tensors(path: Path, dice: random.Random) -> str:
    metadata, plans, data = contents(path)
    i = dice.randrange(len(plans))
    plan, kind = plans[i], dice.randrange(5)
    if kind == 0:
        del plans[i], data[i]
        what = "left out"
    elif kind == 1:
        names = ("blk.9.attn_q.weight", "x", "blk.0.attn_q.bias", "output.weight", "blk.0.ffn_up.0.weight")
        plans[i] = TensorPlan(dice.choice((*names, plans[0].name)), plan.shape, plan.kind)
        what = f"called {plans[i].name}"
    elif kind == 2:
        shape = dice.choice((plan.shape[::-1], (*plan.shape, 1), (1, *plan.shape), (plan.shape[0] * 2,)))
        plans[i] = TensorPlan(plan.name, shape, plan.kind)
        data[i] = (data[i] * 2)[: plans[i].n_bytes]
        what = f"of shape {shape}"
    elif kind == 3:
        data[i] = bytes(dice.randrange(256) for _ in range(4)) * (len(data[i]) // 4)
        what = "of other values"
    else:
        halved = [kind for kind in ("F16", "BF16") if kind in BLOCKS]
        plans[i] = TensorPlan(plan.name, plan.shape, dice.choice(halved))
        data[i] = data[i][: plans[i].n_bytes]
        what = f"as {plans[i].kind}"
    rewritten(path, metadata, plans, data)
    return f"{plan.name} {what}"


DAMAGES: tuple[Damage, ...] = (flip, overwrite, cut, change_metadata, change_metadata, change_tensors)


def unsupported(path: Path, number: int) -> None:
    """Give the first tensor another kind, by its number in the header."""
    first = next(iter(read_gguf(path).tensors.values()))
    raw = bytearray(path.read_bytes())
    name = first.name.encode()
    place = raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + 4 + 8 * len(first.shape)
    assert struct.unpack_from("<I", raw, place)[0] == 0
    struct.pack_into("<I", raw, place, number)
    path.write_bytes(raw)


def _refused(path: Path, out: Path, number: int) -> Callable[[], int]:
    """An import that ends with 2 where it refuses the kind by its name."""

    def case() -> int:
        from parakit.checkpoints.import_export import import_model
        from parakit.common.errors import UserError

        try:
            import_model(str(path), out)
        except UserError as error:
            return 2 if f"quantized as {KIND_NAMES.get(number, f'number {number}')}" in error.message else 3
        return 0

    return case


def sweep(sample: Path, n: int, seed: int = 0, kinds: tuple[int, ...] = tuple(UNREAD)) -> dict[str, Any]:
    """`n` damaged files from `seed` on, and one of each of `kinds`, which are not read: how they ended, every fault."""
    ends: Counter[str] = Counter()
    faults, slowest, largest = [], (0.0, ""), (0.0, "")
    cases: list[tuple[int, int | None]] = [(i, None) for i in range(seed, seed + n)]
    cases += [(number, number) for number in [*kinds, 99]]
    for i, number in cases:
        with tempfile.TemporaryDirectory(prefix="parakit-gguf-") as root:
            path, out = Path(root) / "file.gguf", Path(root) / "out"
            shutil.copy(sample, path)
            if number is None:
                dice = random.Random(i)
                what = dice.choice(DAMAGES)(path, dice)
            else:
                unsupported(path, number)
                what = f"kind {number}"
            case = (
                main_of(["import", path, "--output", out]) if number is None else _refused(path, out, number)
            )
            outcome = run(case, path)
            fault = outcome.fault
            if not fault and [p.name for p in Path(root).iterdir() if p.name.startswith(".")]:
                fault = "left something behind"
            if not fault and outcome.status not in (0, 2):
                fault = f"status {outcome.status}: {outcome.output[-300:]}"
            if number is not None and not fault and outcome.status != 2:
                fault = "not refused by name"
        ends["fault" if fault else "refused" if outcome.refused else f"status {outcome.status}"] += 1
        slowest = max(slowest, (round(outcome.seconds, 2), f"{i}: {what}"))
        largest = max(largest, (round(outcome.megabytes), f"{i}: {what}"))
        if fault:
            faults.append(f"{i}: {what}\n    {fault}")
    return {"n": len(cases), "ends": dict(ends), "slowest": slowest, "largest": largest, "faults": faults}


def main() -> int:
    """Run the sweep; 1 where anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="parakit-gguf-sample-") as root:
        with contextlib.redirect_stdout(sys.stderr):
            sample = make_sample(Path(root))
        result = sweep(sample, given.n, given.seed)
    print(*result["faults"], sep="\n", flush=True)
    print(json.dumps({"attack": "gguf"} | result | {"faults": len(result["faults"])}))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
