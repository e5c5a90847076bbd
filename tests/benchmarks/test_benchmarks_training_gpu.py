"""`training_gpu` runs on a CPU at its tiny shape, and its rows are of the chain whose entropy it names."""

from __future__ import annotations

import numpy as np

from benchmarks.speed.training_gpu import Chain, training_gpu


def test_the_program_on_a_cpu() -> None:
    figures = training_gpu(
        shape="tiny", device="cpu", precision="float32", compile="off", n_steps=4, n_measured=2
    )
    assert figures["tokens_per_second"] > 0
    assert 0 < figures["share_of_peak"] < 1


def test_rows_follow_the_chain() -> None:
    chain = Chain(16, 3, 2000)
    batch = chain.rows(6, 3)
    assert np.array_equal(batch.input_ids, chain.rows(6, 3).input_ids)
    assert not np.array_equal(batch.input_ids, chain.rows(9, 3).input_ids)
    allowed = chain.successors[batch.input_ids]  # (3, 2000, 8)
    assert (allowed == batch.target_ids[..., None]).any(-1).all()
    first = (chain.successors[batch.input_ids, 0] == batch.target_ids).mean()
    assert 0.5 < first < 0.65  # its probability is 0.502; another successor may be the same state
