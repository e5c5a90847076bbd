"""Loading a model folder of 500 MB against reading its file, and the memory that it takes at its highest.

The folder is like published ones: safetensors without a manifest. Reading is `file.read()` into fresh
memory, so both sides end with all bytes in memory of their own. Warm: the file lies in the system's page cache;
cold: its pages were given back before every run (what lies in a host's or a disk's own cache stays there, so
single runs differ widely). Also shown: loading into bfloat16, from shards, and Parakit's own folder, whose
sha256 sums are verified first.

Peak memory is that of a process of its own, above what it has after loading a tiny model, divided by the bytes of
the weights and of the largest file (mapped pages count while the file is open).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import interleaved, paired, run_process
from benchmarks.registry import NO_TARGET, Figures, benchmark

WIDTH, VOCAB_SIZE, HEAD_DIM = 768, 32_000, 64
PEAK = """
import json, sys
from parakit.checkpoints import load_model
def highest():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
load_model(sys.argv[1])
before = highest()
model = load_model(sys.argv[2])
print(json.dumps({"bytes": highest() - before}))
"""


@benchmark("loading", {
    "warm.ratio.seconds": ("<= 1.2", "seconds to load 500 MB over seconds to read the file, in the page cache"),
    "cold.ratio.seconds": ("<= 1.2", "seconds to load 500 MB over seconds to read the file, pages given back"),
    "peak_memory.one_file": ("<= 1.05", "peak memory over the size of the weights, one file"),
    "peak_memory.shards": ("<= 1.05", "peak memory over the size of the weights, eight shards"),
    "others.verified.seconds": (NO_TARGET, "seconds to load a folder of Parakit's, sha256 sums verified"),
})  # fmt: skip
def loading(*, megabytes: float = 500, repeats: int = 7) -> Figures:
    """Folders with weights of this size."""
    with tempfile.TemporaryDirectory(prefix="parakit-loading-") as scratch:
        return _measure(Path(scratch), megabytes, repeats)


def _measure(scratch: Path, megabytes: float, repeats: int) -> Figures:
    own, shards, tiny = (scratch / name for name in ("own", "shards", "tiny"))
    n_bytes = _write(own, megabytes)
    _write(shards, megabytes, max_shard_bytes=n_bytes // 8)
    _write(tiny, 0)
    file = own / "model.safetensors"
    foreign = scratch / "foreign"
    foreign.mkdir()
    for name in ("config.json", "model.safetensors"):
        os.link(own / name, foreign / name)
    for path in (shards, tiny):
        for name in ("lineage.json", "manifest.json"):
            (path / name).unlink()
    _timed(lambda: _load(foreign))  # imports are no part of loading
    return {
        "megabytes": round(n_bytes / 1e6),
        "n_cores": len(os.sched_getaffinity(0)),
        "warm": paired(lambda: _timed(lambda: _load(foreign)), lambda: _timed(file.read_bytes), repeats),
        "cold": paired(
            lambda: _timed(lambda: _load(foreign), file), lambda: _timed(file.read_bytes, file), repeats
        ),
        "others": interleaved(
            {
                "verified": lambda: _timed(lambda: _load(own)),
                "bfloat16": lambda: _timed(lambda: _load(foreign, dtype="bfloat16")),
                "shards": lambda: _timed(lambda: _load(shards)),
            },
            repeats,
        ),
        "peak_memory": {
            "one_file": _peak(tiny, foreign, n_bytes),
            "shards": _peak(tiny, shards, n_bytes),
        },
    }


def _write(folder: Path, megabytes: float, **options: int) -> int:
    """A random decoder of about this size; the bytes of its weights."""
    from parakit.checkpoints import save_model
    from parakit.common import Lineage
    from parakit.model import DecoderConfig, LanguageModel

    heads = WIDTH // HEAD_DIM
    config = DecoderConfig(
        vocab_size=VOCAB_SIZE if megabytes else 8, d_model=WIDTH if megabytes else HEAD_DIM, n_layers=1,
        n_heads=heads, n_kv_heads=heads, head_dim=HEAD_DIM, d_ff=3 * WIDTH,
    )  # fmt: skip
    one, two = (config.replace(n_layers=n).n_params()["total"] * 4 for n in (1, 2))
    config = config.replace(n_layers=1 + max(0, round((megabytes * 1e6 - one) / (two - one))))
    save_model(LanguageModel(config), None, folder, Lineage("model"), **options)
    return config.n_params()["total"] * 4


def _load(folder: Path, dtype: str | None = None) -> object:
    from parakit.checkpoints import load_model

    return load_model(folder, dtype=dtype)


def _timed(run: Callable[[], object], evict: Path | None = None) -> Mapping[str, float]:
    """Seconds of one run; what it made is given back after the clock has stopped."""
    if evict is not None:
        with open(evict, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    made = run()
    seconds = time.perf_counter() - started
    del made
    return {"seconds": seconds}


def _peak(tiny: Path, folder: Path, n_bytes: int) -> float:
    """Highest memory of a process that loads `folder`, as a share of the weights and the largest file."""
    largest = max(file.stat().st_size for file in folder.glob("*.safetensors"))
    run = run_process([sys.executable, "-c", PEAK, tiny, folder])
    return round(run.figures["bytes"] / (n_bytes + largest), 4)
