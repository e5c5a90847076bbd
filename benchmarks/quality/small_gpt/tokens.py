"""A GPT of 10 million parameters on token ids in files, trained for a given time, as a plain PyTorch program.

6 layers, 8 heads, width 320, context 256; the rows of a step and the rate are arguments. Its time is all of its own, from
the start of the process to the end of the evaluation; the text is tokenized before. The last line printed is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

STARTED = time.perf_counter()

import numpy as np  # noqa: E402 (the imports belong to the time that is measured)
import torch  # noqa: E402

from benchmarks.quality.small_gpt.model import GPT, Pace, Recipe, Shape, mean_loss, train  # noqa: E402


def pace_of_seconds(seconds: float) -> Pace:
    """The part of the time that is over since the start of the process."""
    return lambda step: (time.perf_counter() - STARTED) / seconds


def main() -> None:
    """Parse, train, evaluate, print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path, help="a .npy file of ids")
    parser.add_argument("validation", type=Path, help="a .npy file of ids")
    parser.add_argument("--vocab-size", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="until the last step")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    shape = Shape(arguments.vocab_size, n_layers=6, n_heads=8, d_model=320, seq_len=256)
    recipe = Recipe(arguments.rows, arguments.learning_rate, betas=(0.9, 0.95))
    model = GPT(shape)
    ids = [
        torch.from_numpy(np.load(file).astype(np.int32)) for file in (arguments.train, arguments.validation)
    ]
    steps = train(model, ids[0], recipe, pace_of_seconds(arguments.seconds), arguments.seed)
    trained = time.perf_counter() - STARTED
    loss = mean_loss(model, ids[1], rows_at_once=8)
    figures = {
        "nats": loss * (len(ids[1]) - 1),
        "seconds": time.perf_counter() - STARTED,
        "train_seconds": trained,
        "steps": steps,
        "tokens": steps * recipe.n_rows * shape.seq_len,
        "n_params": sum(parameter.numel() for parameter in model.parameters()),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
