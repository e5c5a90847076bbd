"""One run of the road: `python -m benchmarks.research.since_2017.run '{"what": "3", ...}'`; the last line is its figures."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.research.since_2017 import classical_baselines, points
from benchmarks.research.since_2017.text import token_ids
from parakit.common.seeds import seed_everything
from parakit.model.heads import LanguageModel
from parakit.tokens.batches.source import BatchSource, evaluation_batches
from parakit.tokens.shards import TokenShards
from parakit.training.config import TextTrainingConfig, TrainingPlan, resolve
from parakit.training.loop import TrainingDiverged, train_steps
from parakit.training.micro_batches import to_micro_batch
from parakit.training.objectives import next_token
from parakit.training.optimizers.optimizer import Optimizer

ROWS = 16
N_TIMED = 12
UNLEARNED = math.log2(257)  # bits of a byte, for a run that went astray: every id equally likely
CPU = torch.device("cpu")


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train for `seconds` of processor time and measure the held-out bytes."""
    torch.set_num_threads(1)
    train, held_out = (TokenShards(*token_ids(Path(job["text"]), s)) for s in ("train", "validation"))
    model, optimizer, schedule = _made(job)
    step_seconds = _time_steps(job, train)
    plan = _plan(job, optimizer, schedule, max(20, int(job["seconds"] / step_seconds)))
    source = BatchSource(train, points.SEQ_LEN, job["seed"])
    batches = ([to_micro_batch(source.rows(step * ROWS, ROWS), CPU)] for step in range(plan.max_steps))
    started = time.process_time()
    diverged, skipped = False, 0
    try:
        for record in train_steps(model, batches, next_token, Optimizer(model, plan)):
            skipped += record.skipped
    except TrainingDiverged:  # a finding about this rate, and no reason to stop the others
        diverged = True
    seconds = time.process_time() - started
    return {
        "bits_per_byte": UNLEARNED if diverged else _bits_per_byte(model, held_out),
        "diverged": diverged,
        "parameters": classical_baselines.n_parameters(model),
        "bytes_seen": plan.max_steps * ROWS * points.SEQ_LEN,
        "seconds": seconds,
        "skipped": skipped,
    }


def _made(job: dict[str, Any]) -> tuple[Any, str, str]:
    """The model of a job, freshly drawn, its optimizer and its schedule."""
    seed_everything(job["seed"])
    if job["what"] == "lstm":
        return classical_baselines.LSTMLanguageModel.of_size(points.N_PARAMS, 257), "adamw", "cosine"
    step = points.ablation_steps()[int(job["what"])]
    model = LanguageModel(step.config)
    if step.xavier:
        classical_baselines.xavier(model)
    return model, step.optimizer, step.schedule


def _plan(job: dict[str, Any], optimizer: str, schedule: str, max_steps: int) -> TrainingPlan:
    config = TextTrainingConfig.parse(
        {
            "max_steps": max_steps,
            "optimizer": optimizer,
            "schedule": schedule,
            "warmup_steps": max(10, max_steps // 20),
            "seed": job["seed"],
            "adam_betas": (0.9, 0.95),
            "precision": "float32",
        }
    )
    tokens = ROWS * points.SEQ_LEN
    rate = job["rate"]
    other = 0.004 if optimizer == "muon" else rate
    return resolve(
        config,
        learning_rate=rate,
        embedding_learning_rate=other,
        batch_tokens=tokens,
        max_seq_len=points.SEQ_LEN,
        n_train_tokens=10**9,
    )


def _time_steps(job: dict[str, Any], train: TokenShards) -> float:
    """Processor seconds of one step, on a model that is thrown away."""
    model, optimizer, schedule = _made(job)
    source = BatchSource(train, points.SEQ_LEN, job["seed"])
    plan = _plan(job, optimizer, schedule, N_TIMED)
    batches = ([to_micro_batch(source.rows(step * ROWS, ROWS), CPU)] for step in range(N_TIMED))
    times = [time.process_time()]
    for _ in train_steps(model, batches, next_token, Optimizer(model, plan)):
        times.append(time.process_time())
    return (times[-1] - times[3]) / (N_TIMED - 3)


@torch.inference_mode()
def _bits_per_byte(model: Any, held_out: TokenShards) -> float:
    """Every held-out byte predicted once, in windows that begin with half a window of context."""
    model.eval()
    total = n = 0.0
    for batch in evaluation_batches(held_out, points.SEQ_LEN, 16, overlap=points.SEQ_LEN // 2):
        micro = to_micro_batch(batch, CPU)
        total += float(next_token(model, micro))
        n += micro.n_counted
    return total / n / math.log(2)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
