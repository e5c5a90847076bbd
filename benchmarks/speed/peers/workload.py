"""What both sides of a speed comparison do: the sizes, the shapes of a batch, the tasks, and how a task is
timed.

Imports neither Parakit nor a peer, so that each side's program runs in an environment that has only its
own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VOCAB_SIZE, MAX_SEQ_LEN = 4096, 512
# d_model, n_layers, n_heads, n_kv_heads, head_dim, d_ff; 1.2, 5.8 and 24 million parameters
SIZES = {
    "1m": (128, 4, 4, 2, 32, 384),
    "6m": (256, 6, 8, 4, 32, 768),
    "24m": (512, 8, 8, 4, 64, 1408),
}
TRAIN_ROWS, TRAIN_SEQ_LEN, TRAIN_STEPS, WARM_STEPS = 8, 256, 6, 2
PROMPT_TOKENS, NEW_TOKENS = 32, 96
LEARNING_RATE = 1e-3
TASKS = ("make", "train", "generate-1", "generate-8", "start")

Task = Callable[[Path, str], dict[str, Any]]


def rows(n_rows: int, n_tokens: int) -> list[list[int]]:
    """Token ids that both sides know without sharing a generator: a linear congruence, row by row."""
    state, made = 12345, []
    for _ in range(n_rows):
        row = []
        for _ in range(n_tokens):
            state = (1103515245 * state + 12345) % 2**31
            row.append((state >> 8) % VOCAB_SIZE)
        made.append(row)
    return made


def timed_generation(
    generate: Callable[[list[list[int]], int], list[list[int]]], n_rows: int
) -> dict[str, Any]:
    """Greedy decoding, warmed up: tokens a second, and the new ids for comparison."""
    prompts = rows(n_rows, PROMPT_TOKENS)
    generate(prompts, 4)
    started = time.perf_counter()
    completions = generate(prompts, NEW_TOKENS)
    seconds = time.perf_counter() - started
    n_new = sum(map(len, completions))
    assert n_new == n_rows * NEW_TOKENS, "a side stopped early"
    return {"tokens_per_second": n_new / seconds, "token_ids": completions}


def timed_training(step: Callable[[], float]) -> dict[str, Any]:
    """Training steps, the first few not counted: tokens a second, and the last loss for comparison."""
    for _ in range(WARM_STEPS):
        step()
    started = time.perf_counter()
    losses = [step() for _ in range(TRAIN_STEPS)]
    seconds = time.perf_counter() - started
    return {"tokens_per_second": TRAIN_STEPS * TRAIN_ROWS * TRAIN_SEQ_LEN / seconds, "loss": losses[-1]}


def run_side(tasks: dict[str, Task]) -> None:
    """Parse `TASK FOLDER SIZE`, run the task, print its figures as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=tasks)
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", choices=SIZES)
    arguments = parser.parse_args()
    print(json.dumps(tasks[arguments.task](arguments.folder, arguments.size)))
