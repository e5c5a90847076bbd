"""Parakit's side and transformers' `Trainer` do the same training in `training_speed`, and figures come of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.registry import rows
from benchmarks.speed import training_speed
from benchmarks.speed.peers import training_parakit_side, training_transformers_side
from benchmarks.speed.peers import training_workload as work


def test_both_sides_train_alike(tmp_path: Path) -> None:
    size = work.SIZES["tiny"]
    training_transformers_side.make(size, tmp_path)
    losses = []
    for side in (training_parakit_side, training_transformers_side):
        clock = work.StepClock(size)
        losses.append(side.train(size, tmp_path, clock))
        assert len(clock.marks) == size.n_steps + 1
        assert clock.figures()["tokens_per_second"] > 0
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_operations_of_a_token_are_those_of_the_config() -> None:
    from parakit.model import DecoderConfig

    size = work.SIZES["10m"]
    config = DecoderConfig(
        vocab_size=size.vocab_size, d_model=size.d_model, n_layers=size.n_layers, n_heads=size.n_heads,
        n_kv_heads=size.n_kv_heads, head_dim=size.head_dim, d_ff=size.d_ff, max_seq_len=size.seq_len,
    )  # fmt: skip
    assert config.n_params()["total"] == size.n_params
    assert config.flops_per_token(size.seq_len) == pytest.approx(size.flops_per_token, rel=0.02)


def test_every_side_reads_other_rows_at_every_step() -> None:
    size = work.SIZES["tiny"]
    made = work.rows(size)
    assert np.array_equal(made, work.rows(size))
    assert len({row.tobytes() for row in made}) == size.n_steps * size.n_rows
    assert made.max() < size.vocab_size


@pytest.mark.long  # two processes that import torch and transformers
def test_the_figures_that_are_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = training_speed.training_speed(
        sizes=("tiny",), peers=("transformers",), repeats=1, work=tmp_path / "work"
    )
    judged = {
        row.path for row in rows(figures, {"ratio.*.fastest": (">= 1.3", "{0}"), "share.*": (">= 0", "{0}")})
    }
    assert judged == {"ratio.tiny.fastest", "share.tiny"}
    assert figures["loss_difference"]["tiny"] < 1e-4
    assert torch.get_num_threads() >= 1
