"""A sample of the damaged GGUF files; `python -m tests.attacks.gguf_files` runs more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.gguf_files import make_sample, sweep


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sample(tmp_path_factory.mktemp("gguf"))


def test_damaged_files_end_in_a_result_or_a_refusal(sample: Path) -> None:
    """And one of a kind that is in no list."""
    result = sweep(sample, 8, kinds=())
    assert result["faults"] == []


@pytest.mark.long
def test_many_damaged_files_and_every_kind_that_is_not_read(sample: Path) -> None:
    result = sweep(sample, 400, seed=10_000)
    assert result["faults"] == []
    assert result["ends"]["refused"] > 200
