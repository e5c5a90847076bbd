"""Losses and gradients of 1, 2 and 4 processes are equal, in every layout."""

from __future__ import annotations

import pytest
import torch

from tests.training.parallel.forked import in_processes
from tests.training.parallel.spread_runs import held_bytes, run_steps, whole_gradients

LAYOUTS = [
    (2, "data"),
    (2, "shard"),
    (2, "tensor"),
    (4, "data"),
    (4, "shard"),
    (4, "data=2,shard=2"),
    (4, "data=2,tensor=2"),
    (4, "shard=2,tensor=2"),
]
# A loss below it differs by a share of this: rewards make losses around zero, PPO's is the difference of two parts of about
# 0.3 each, and DPO's begins at 0.69 and falls to 0.005.
SMALL = {"ppo": 0.1, "dpo": 0.1}


def assert_equal_losses(name: str, n: int, parallel: str, tolerance: float, **changes: object) -> None:
    """The losses of `n` processes are those of one, which all processes know alike."""
    alone = run_steps(name, **changes)
    found = in_processes(n, run_steps_of, name, {"parallel": parallel, **changes})
    assert all(one == found[0] for one in found), "processes disagree"
    for (step, loss, norm, *counts), (_, wanted, wanted_norm, *wanted_counts) in zip(
        found[0], alone, strict=True
    ):
        assert loss == pytest.approx(wanted, rel=tolerance, abs=SMALL.get(name, 1e-3) * tolerance), step
        assert norm == pytest.approx(wanted_norm, rel=100 * tolerance), step
        assert counts[0] == wanted_counts[0], "counted tokens"


def run_steps_of(name: str, changes: dict[str, object]) -> list[tuple[float, ...]]:
    return run_steps(name, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "n", "parallel"), [("next_token", 2, "shard"), ("masked", 2, "data")])
def test_losses_of_two_processes_are_those_of_one(name: str, n: int, parallel: str) -> None:
    assert_equal_losses(name, n, parallel, 1e-5, max_steps=4)


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["next_token", "masked", "span", "pairs", "prefix", "lora", "dpo", "grpo", "ppo"]
)
@pytest.mark.parametrize(("n", "parallel"), LAYOUTS)
def test_losses_over_fifty_steps(name: str, n: int, parallel: str) -> None:
    assert_equal_losses(name, n, parallel, 1e-5, max_steps=50)


@pytest.mark.long
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_uneven_rows_and_micro_batches(optimizer: str) -> None:
    for batch_tokens, micro_batch_size in ((7 * 12, 2), (5 * 12, 5)):
        changes = {"batch_tokens": batch_tokens, "micro_batch_size": micro_batch_size, "max_steps": 6}
        assert_equal_losses("next_token", 4, "shard", 1e-5, optimizer=optimizer, **changes)


@pytest.mark.long
@pytest.mark.parametrize("name", ["next_token", "span"])
@pytest.mark.parametrize("micro_batch_size", [1, 3, 8])
@pytest.mark.parametrize(("n", "parallel"), LAYOUTS)
def test_gradients_do_not_depend_on_how_a_batch_is_split(
    name: str, micro_batch_size: int, n: int, parallel: str
) -> None:
    wanted = whole_gradients(name)
    found = in_processes(
        n, whole_gradients_of, name, {"parallel": parallel, "micro_batch_size": micro_batch_size}
    )
    for gradients in found:
        assert gradients.keys() == wanted.keys()
        for key, gradient in gradients.items():
            largest = float(wanted[key].abs().max())
            torch.testing.assert_close(gradient, wanted[key], rtol=0, atol=1e-6 * max(1.0, largest), msg=key)


def whole_gradients_of(name: str, changes: dict[str, object]) -> dict[str, torch.Tensor]:
    return whole_gradients(name, **changes)  # type: ignore[arg-type]


@pytest.mark.long
def test_a_process_holds_its_share_of_weights_gradients_and_moments() -> None:
    alone = held_bytes("next_token")
    for n, parallel, share in ((2, "shard", 1 / 2), (4, "shard", 1 / 4), (4, "shard=2,tensor=2", 1 / 4)):
        found = in_processes(n, held_bytes_of, {"parallel": parallel})
        for kind in range(3):
            assert sum(one[kind] for one in found) >= alone[kind]
            assert max(one[kind] for one in found) <= 1.15 * share * alone[kind], (parallel, kind)


def held_bytes_of(changes: dict[str, object]) -> tuple[int, int, int]:
    return held_bytes("next_token", **changes)  # type: ignore[arg-type]
