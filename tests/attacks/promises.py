"""Runs in a given time on machines whose speed changes while they train: each ends when it was promised to.

    python -m tests.attacks.promises [--n N] [--seed S]

A machine halves or doubles its speed at any moment, once or several times, and every step varies by 40 %; the first guess
of the speed is wrong by a factor of up to seven; validations, checkpoints and what comes after the last step take up to 4 %
of the time each. Nothing sleeps: the clock is simulated, the rest is the code of a run. The last line counts the runs that
ended within 15 % of the promise, and names the worst.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from parakit.training.optimizers.schedules import learning_rate_factor
from tests.training.simulated_machine import Followed, Machine, Speed, follow

PROMISE, SECONDS = 0.15, 120.0


def changing_speed(random: np.random.Generator, n_changes: int) -> Speed:
    """Full speed, halved or doubled at `n_changes` moments in all, between a quarter and four times of it."""
    moments = np.sort(random.uniform(0.02, 0.95, n_changes))
    factors = [1.0]
    for _ in moments:
        factors.append(float(np.clip(factors[-1] * random.choice([0.5, 2.0]), 0.25, 4.0)))
    return lambda part, threads: factors[int(np.searchsorted(moments, part))]


def attack(seed: int) -> Followed:
    """One run."""
    random = np.random.default_rng(seed)
    speed = changing_speed(random, n_changes=1 if seed % 2 else int(random.integers(2, 6)))
    return follow(
        Machine(SECONDS, speed),
        max(8, round(float(np.exp(random.uniform(np.log(0.15), np.log(7.0)))) * 400)),
        0.3,
        validation=float(random.uniform(0, 0.04 * SECONDS)),
        save=float(random.uniform(0, 0.02 * SECONDS)),
        after=float(random.uniform(0, 0.04 * SECONDS)),
        jitter=lambda: float(random.uniform(0.6, 1.4)),
        warmup_steps=10,
    )


def main() -> None:
    """Print the counts as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kept = {"one change": [0, 0], "several": [0, 0]}
    ends, decayed = {}, 0
    for seed in range(arguments.seed, arguments.seed + arguments.n):
        found = attack(seed)
        ends[seed] = found.of_the_time
        counts = kept["one change" if seed % 2 else "several"]
        counts[0] += abs(found.of_the_time - 1) < PROMISE
        counts[1] += 1
        decayed += learning_rate_factor(found.plan, found.n_steps - 1) < 0.2
    worst = max(ends, key=lambda seed: abs(ends[seed] - 1))
    figures = {name: f"{n} of {total}" for name, (n, total) in kept.items()}
    worst_end = {"seed": worst, "of_the_time": round(ends[worst], 3)}
    print(json.dumps({"within_15_percent": figures, "rate_decayed": decayed, "worst": worst_end}))


if __name__ == "__main__":
    main()
