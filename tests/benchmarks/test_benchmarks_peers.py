"""Both sides of the comparison with transformers do the same work: the same tokens, the same losses."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from benchmarks.speed import against_transformers
from benchmarks.speed.peers import parakit_side, peers, transformers_side, workload
from parakit.common.errors import UserError


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(workload.SIZES, "tiny", (32, 2, 2, 1, 16, 48))
    for name, value in {
        "VOCAB_SIZE": 64,
        "TRAIN_SEQ_LEN": 16,
        "TRAIN_STEPS": 3,
        "PROMPT_TOKENS": 8,
        "NEW_TOKENS": 6,
    }.items():
        monkeypatch.setattr(workload, name, value)
    made = transformers_side.make(tmp_path, "tiny")
    assert made["n_params"] > 0
    return tmp_path


def test_training_gives_the_same_losses(tiny: Path) -> None:
    actual, reference = (side.train(tiny, "tiny") for side in (parakit_side, transformers_side))
    assert math.isclose(actual["loss"], reference["loss"], rel_tol=1e-4)
    assert against_transformers._same(actual, reference)
    assert not against_transformers._same(actual, reference | {"loss": reference["loss"] * 1.01})


@pytest.mark.parametrize("task", ["generate_1", "generate_8", "start"])
def test_decoding_gives_the_same_tokens(task: str, tiny: Path) -> None:
    actual, reference = (getattr(side, task)(tiny, "tiny") for side in (parakit_side, transformers_side))
    assert actual["token_ids"] == reference["token_ids"]
    assert against_transformers._same(actual, reference)


def test_the_shared_rows_are_within_the_vocabulary_and_differ() -> None:
    rows = workload.rows(4, 50)
    assert rows == workload.rows(4, 50)
    assert len({tuple(row) for row in rows}) == 4
    assert all(0 <= token_id < workload.VOCAB_SIZE for row in rows for token_id in row)


def test_a_peer_that_is_installed_here_is_used_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import pydantic

    monkeypatch.setitem(peers.PEERS, "pydantic", [f"pydantic=={pydantic.VERSION}"])
    assert peers.python_of("pydantic") == Path(sys.executable)
    with pytest.raises(UserError, match="transformers"):
        peers.python_of("jax")
