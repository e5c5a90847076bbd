"""The small published character-level GPT on tinyshakespeare, as a plain PyTorch program.

4 layers, 4 heads, width 128, context 64, 12 sequences a step; AdamW at 1e-3 (betas 0.9 and 0.99), 100 steps of warm-up,
2,000 steps. The last 10 % of the text is validation, all of it evaluated once, in windows of 64 that do not overlap.

`--compile` compiles the model; with an empty cache that costs 30 to 45 s on two cores (5 to 15 s with a full one), so it
is off by default: a fair comparison takes the quicker of the two on the machine at hand. The last line printed is a JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

STARTED = time.perf_counter()

import torch  # noqa: E402 (the import belongs to the time that is measured)

from benchmarks.quality.small_gpt.model import GPT, Pace, Recipe, Shape, mean_loss, train  # noqa: E402

RECIPE = Recipe()


def pace_of_steps(max_steps: int) -> Pace:
    """The part of what follows the warm-up, in steps."""

    def pace(step: int) -> float:
        return max(0, step - RECIPE.warmup_steps) / max(max_steps - RECIPE.warmup_steps, 1)

    return pace if max_steps > RECIPE.warmup_steps else lambda step: step / max_steps


def default_data() -> Path:
    """tinyshakespeare among the public data (PARAKIT_DATA, or ../shared/data)."""
    home = os.environ.get("PARAKIT_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data"
    return Path(home) / "tinyshakespeare" / "input.txt"


def main() -> None:
    """Parse, train, evaluate, print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="a UTF-8 text file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    characters = arguments.data.read_text(encoding="utf-8")
    known = {character: number for number, character in enumerate(sorted(set(characters)))}
    text = torch.tensor([known[character] for character in characters])
    n_train = int(0.9 * len(text))
    model = GPT(Shape(len(known)))
    trained_from = time.perf_counter()
    train(model, text[:n_train], RECIPE, pace_of_steps(arguments.steps), arguments.seed, arguments.compile)
    trained = time.perf_counter()
    loss = mean_loss(model, text[n_train:])
    figures = {
        "validation_loss": round(loss, 5),
        "seconds": round(time.perf_counter() - STARTED, 3),
        "train_seconds": round(trained - trained_from, 3),
        "steps": arguments.steps,
        "seed": arguments.seed,
        "n_params": sum(parameter.numel() for parameter in model.parameters()),
        "compiled": arguments.compile,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
