"""A mixture of experts against a dense model with the same active parameters, trained for the same time.

Decoders over the bytes of books, each run for the same processor time on one thread (so that other work on the machine
changes nothing), in a process of its own, side after side in rounds with a seed each.
"dense, all parameters" has as many as the mixture has in all, and pays for them at every byte. Bits per byte and
expert load are those of held-out books; a load is the share of a layer's choices that fell on an expert.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, interleaved, run_process
from benchmarks.registry import NO_TARGET, Figures, benchmark

VOCAB_SIZE, SEQ_LEN, ROWS = 257, 128, 16  # 256 is the end of a document
N_EXPERTS, N_ACTIVE, N_TIMED = 8, 2, 12
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "d_model": 128, "n_layers": 4, "n_heads": 4, "n_kv_heads": 4, "head_dim": 32,
    "d_ff": 352, "max_seq_len": SEQ_LEN,
}  # fmt: skip
D_EXPERT = SHAPE["d_ff"] // N_ACTIVE
SIDES: Mapping[str, dict[str, Any]] = {
    "dense": {},
    "experts": {"n_experts": N_EXPERTS, "n_active_experts": N_ACTIVE, "d_expert": D_EXPERT},
    "experts, one of them shared": {
        "n_experts": N_EXPERTS - 1, "n_active_experts": N_ACTIVE - 1, "n_shared_experts": 1, "d_expert": D_EXPERT,
    },
    "dense, all parameters": {"d_ff": N_EXPERTS * D_EXPERT},
}  # fmt: skip


@benchmark("experts", {
    "sides.*.bits_per_byte": (NO_TARGET, "{0}: bits per byte of held-out books"),
    "sides.*.tokens_per_second": (NO_TARGET, "{0}: tokens per second in training"),
    "sides.*.least_load": (NO_TARGET, "{0}: load of the least used expert over an even one"),
    "sides.*.greatest_load": (NO_TARGET, "{0}: load of the most used expert over an even one"),
})  # fmt: skip
def experts(*, data: Path = DATA, seconds: float = 180.0, rounds: int = 3) -> Figures:
    """Every side in every round, with a seed of its own; `seconds` is the processor time of one run."""
    from benchmarks.research.since_2017.text import prepare

    runs: dict[str, list[Figures]] = {side: [] for side in SIDES}

    def run(side: str, folder: Path) -> Figures:
        job = {"side": side, "folder": str(folder), "seconds": seconds, "seed": len(runs[side])}
        command = [sys.executable, "-m", "benchmarks.research.experts", json.dumps(job)]
        runs[side].append(run_process(command, environment={"OMP_NUM_THREADS": "1"}).figures)
        return {name: value for name, value in runs[side][-1].items() if not isinstance(value, dict)}

    with tempfile.TemporaryDirectory() as temporary:
        folder = prepare(data / "gutenberg", Path(temporary))
        measured = interleaved({side: partial(run, side, folder) for side in SIDES}, rounds)
    figures: Figures = {"seconds_each": seconds, "sides": measured, "load": {}, "against_dense": {}}
    for side in SIDES:
        if "n_experts" in SIDES[side]:
            figures["load"][side] = [one["load"] for one in runs[side]]
            shares = [share for one in runs[side] for layer in one["load"].values() for share in layer]
            even = 1 / SIDES[side]["n_experts"]
            measured[side] |= {"least_load": min(shares) / even, "greatest_load": max(shares) / even}
        figures["against_dense"][side] = {
            name: _median_ratio(runs[side], runs["dense"], name)
            for name in ("bits_per_byte", "tokens_per_second")
        }
    return figures


def _median_ratio(runs: list[Figures], baseline_runs: list[Figures], name: str) -> float:
    """Round by round, as the rounds had the same seed and hour."""
    return statistics.median(a[name] / b[name] for a, b in zip(runs, baseline_runs, strict=True))


def train(side: str, folder: str, seconds: float, seed: int) -> Figures:
    """One side with one seed: as many steps as fit into `seconds`, then the held-out books."""
    import torch

    from benchmarks.research.since_2017.text import token_ids
    from parakit.tokens.shards import TokenShards
    from parakit.training.loop import train_steps
    from parakit.training.objectives import next_token
    from parakit.training.optimizers.optimizer import Optimizer

    torch.set_num_threads(1)
    shards, held_out = (TokenShards(*token_ids(Path(folder), split)) for split in ("train", "validation"))
    model, times = _model(side, seed), [time.process_time()]
    for _ in train_steps(
        model, _batches(shards, N_TIMED, seed), next_token, Optimizer(model, _plan(N_TIMED, seed))
    ):
        times.append(time.process_time())
    step_seconds = statistics.median(after - before for before, after in pairwise(times[3:]))
    plan = _plan(max(20, round(seconds / step_seconds)), seed)
    model, started = _model(side, seed), time.process_time()
    batches = _batches(shards, plan.max_steps, seed)
    records = list(train_steps(model, batches, next_token, Optimizer(model, plan)))
    spent = time.process_time() - started
    n_tokens = sum(record.n_tokens for record in records)
    config = model.config
    return _held_out(model, held_out) | {
        "tokens_per_second": n_tokens / spent,
        "seconds": spent,
        "tokens": n_tokens,
        "training_loss": statistics.fmean(record.loss for record in records[-20:]),
        "parameters": config.n_params()["total"],
        "active_parameters": config.n_active_params(),
    }


def _model(side: str, seed: int) -> Any:
    from parakit.common.seeds import seed_everything
    from parakit.model import DecoderConfig, LanguageModel

    seed_everything(seed)
    return LanguageModel(DecoderConfig(**SHAPE | SIDES[side]))


def _plan(max_steps: int, seed: int) -> Any:
    from parakit.training.config import TextTrainingConfig, resolve

    config = TextTrainingConfig(max_steps=max_steps, seed=seed, precision="float32")
    return resolve(
        config, learning_rate=0.02, embedding_learning_rate=0.004, batch_tokens=ROWS * SEQ_LEN,
        max_seq_len=SEQ_LEN, n_train_tokens=10**9,
    )  # fmt: skip


def _batches(shards: Any, n_steps: int, seed: int) -> Iterator[list[Any]]:
    import torch

    from parakit.tokens.batches.source import BatchSource
    from parakit.training.micro_batches import to_micro_batch

    source = BatchSource(shards, SEQ_LEN, seed)
    for step in range(n_steps):
        yield [to_micro_batch(source.rows(step * ROWS, ROWS), torch.device("cpu"))]


def _held_out(model: Any, held_out: Any) -> Figures:
    """Bits per byte in windows that begin with half a window of context, and the load of every layer's experts."""
    import torch

    from parakit.model import expert_load
    from parakit.tokens.batches.source import evaluation_batches
    from parakit.training.micro_batches import to_micro_batch
    from parakit.training.objectives import next_token

    model.eval()
    loss, n_counted, loads = 0.0, 0, []
    with torch.inference_mode():
        for batch in evaluation_batches(held_out, SEQ_LEN, ROWS, overlap=SEQ_LEN // 2):
            micro = to_micro_batch(batch, torch.device("cpu"))
            loss += float(next_token(model, micro))
            n_counted += micro.n_counted
            loads.append(expert_load(model))
    mean = {
        str(layer): [
            round(statistics.fmean(column), 4) for column in zip(*(one[layer] for one in loads), strict=True)
        ]
        for layer in loads[0]
    }
    return {"bits_per_byte": loss / n_counted / math.log(2), "load": mean}


if __name__ == "__main__":  # the process that trains
    print(json.dumps(train(**json.loads(sys.argv[1]))))
