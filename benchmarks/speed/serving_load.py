"""The server under load against llama.cpp's (llama_cpp.server) and `transformers serve`: equal weights in fp32, equal cores.

1, 4, 16 and 64 clients send streamed chat requests, greedy, one after the other. Each server is a process of its own, the
clients another, on the same cores; the servers take turns. llama_cpp.server computes one request at a time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import ROOT, interleaved, kept_or_measured, run_parakit, run_process, work_folder
from benchmarks.quality.real_models.data import imported
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.peers import peers

CLIENTS = (1, 4, 16, 64)
SERVERS = ("parakit", "llama", "transformers")
SIZES = ("quickstart", "135m")
CLIENT = Path(__file__).parent / "peers" / "load_client.py"
READY_SECONDS = 180
SLOW_REQUESTS = 200  # of a p99: with 40 it is the largest of them
NAME = "served"


@benchmark("serving_load", {
    "*.clients_16.over_llama": (">= 1", "{0} model, 16 clients: tokens a second over llama.cpp's server"),
    "*.clients_16.over_transformers": (">= 1", "{0} model, 16 clients: tokens a second over transformers'"),
    "*.slow_clients.ratio": (
        "<= 1.2", "{0} model, 50 readers at 1 B/s and 500 half-open connections: p99 to the first token over that without"
    ),
    "*.*.parakit.requests_per_second": (NO_TARGET, "{0} model, {1}: requests a second"),
    "*.*.parakit.tokens_per_second": (NO_TARGET, "{0} model, {1}: tokens a second"),
    "*.*.parakit.first_token_p50": (NO_TARGET, "{0} model, {1}: seconds to the first token, p50"),
    "*.*.parakit.first_token_p99": (NO_TARGET, "{0} model, {1}: seconds to the first token, p99"),
    "*.*.parakit.between_tokens_p50": (NO_TARGET, "{0} model, {1}: seconds between tokens, p50"),
    "*.*.parakit.between_tokens_p99": (NO_TARGET, "{0} model, {1}: seconds between tokens, p99"),
    "*.*.llama.tokens_per_second": (NO_TARGET, "{0} model, {1}: tokens a second, llama.cpp's server"),
    "*.*.transformers.tokens_per_second": (NO_TARGET, "{0} model, {1}: tokens a second, transformers serve"),
})  # fmt: skip
def serving_load(
    *,
    work: Path | None = None,
    small: Path | None = None,
    sizes: Sequence[str] = SIZES,
    servers: Sequence[str] = SERVERS,
    clients: Sequence[int] = CLIENTS,
    n_new: int = 64,
    requests_per_client: int = 4,
    repeats: int = 3,
    slow: bool = True,
    threads: int | None = None,
) -> Figures:
    """`small`: a build to serve as the quickstart model; without it the built-in recipe is built (minutes). `slow`: measure
    Parakit's server with slow readers and half-open connections too.
    """
    threads = threads or len(os.sched_getaffinity(0))
    figures: Figures = {}
    with work_folder(work) as folder:
        for size in sizes:
            files = _files(size, folder, small)
            for n_clients in clients:
                spec = {
                    "model": NAME,
                    "n_new": n_new,
                    "n_clients": n_clients,
                    "n_requests": max(n_clients * requests_per_client, 8),
                    "first": 0,
                }
                kept = None if work is None else folder / "measured" / f"{size}-{n_clients}.json"
                measure = functools.partial(_compare, servers, files, spec, repeats, threads)
                figures.setdefault(size, {})[f"clients_{n_clients}"] = kept_or_measured(kept, measure)
            if slow:
                kept = None if work is None else folder / "measured" / f"{size}-slow.json"
                measure = functools.partial(_slow_clients, files, n_new, repeats, threads)
                figures.setdefault(size, {})["slow_clients"] = kept_or_measured(kept, measure)
    return figures


def _compare(
    servers: Sequence[str], files: Mapping[str, Path], spec: Figures, repeats: int, threads: int
) -> Figures:
    """The figures of each server at one number of clients, and Parakit's throughput over the others'."""

    def side(name: str) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            with _running(name, files, threads) as port:
                served = str(files["folder"]) if name == "transformers" else NAME
                own = spec | {"port": port, "model": served}
                _clients(own | {"n_clients": 2, "n_requests": 4, "first": 100_000, "n_new": 8})  # warm
                return _clients(own)

        return run

    measured = interleaved({name: side(name) for name in servers}, repeats)
    figures: Figures = dict(measured)
    for name in servers:
        if name != "parakit":
            own, other = (measured[one]["tokens_per_second"]["median"] for one in ("parakit", name))
            figures[f"over_{name}"] = own / other
    return {key: _medians(value) if isinstance(value, dict) else value for key, value in figures.items()}


def _slow_clients(files: Mapping[str, Path], n_new: int, repeats: int, threads: int) -> Figures:
    """The time to the first token of four clients, alone and next to slow ones."""
    spec: Figures = {"model": NAME, "n_new": n_new, "n_clients": 4, "n_requests": SLOW_REQUESTS, "first": 0}

    def side(extra: Figures) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            with _running("parakit", files, threads) as port:
                _clients(spec | {"port": port, "n_requests": 8, "first": 100_000})  # warm
                return _clients(spec | extra | {"port": port})

        return run

    sides = {"alone": side({}), "next_to_slow": side({"n_slow": 50, "n_half_open": 500})}
    p99 = {name: found["first_token_p99"]["median"] for name, found in interleaved(sides, repeats).items()}
    return p99 | {"ratio": p99["next_to_slow"] / p99["alone"]}


def _medians(figures: Figures) -> Figures:
    return {name: value["median"] for name, value in figures.items()}


def _clients(spec: Figures) -> dict[str, float]:
    return run_process([sys.executable, CLIENT, json.dumps(spec)]).figures


def _files(size: str, folder: Path, small: Path | None) -> dict[str, Path]:
    """The model as each server loads it: its folder, transformers' layout, and a GGUF file, all in fp32."""
    plain, gguf = folder / f"{size}-folder", folder / f"{size}-F32.gguf"
    if size == "135m":
        source = imported("smollm2", folder / "135m-model")
    else:
        source = small or folder / "builds" / "primer"
        if not source.exists():
            run_parakit("build", "--builds", folder / "builds")
    if not plain.exists():
        run_parakit("export", source, "--output", plain, "--dtype", "float32")
    if not gguf.exists():
        run_parakit("export", source, "--format", "gguf", "--type", "F32", "--output", gguf)
    return {"source": source, "folder": plain, "gguf": gguf, "accounts": folder / "accounts"}


def _command(name: str, files: Mapping[str, Path], port: int, threads: int) -> list[str | Path]:
    if name == "parakit":
        model = f"{NAME}={files['source']}"
        command = [sys.executable, "-m", "parakit", "serve", model, "--port", str(port), "--no-studio"]
        return [*command, "--max-running", "64", "--dtype", "float32", "--accounts", str(files["accounts"])]
    if name == "llama":
        python = peers.python_of("llama")
        command = [str(python), "-m", "llama_cpp.server", "--model", str(files["gguf"]), "--port", str(port)]
        command += [
            "--host",
            "127.0.0.1",
            "--n_ctx",
            "2048",
            "--n_threads",
            str(threads),
            "--verbose",
            "false",
        ]
        return [*command, "--n_threads_batch", str(threads), "--interrupt_requests", "false"]
    python = peers.python_of("transformers")
    command = [str(python.parent / "transformers"), "serve", str(files["folder"]), "--port", str(port)]
    return [*command, "--host", "127.0.0.1", "--continuous-batching", "--device", "cpu", "--dtype", "float32"]


@contextlib.contextmanager
def _running(name: str, files: Mapping[str, Path], threads: int) -> Iterator[int]:
    """A server in a process of its own, until it answers; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(word) for word in _command(name, files, port, threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=ROOT
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} does not answer")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    """Whether something answers there, with whatever status."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
