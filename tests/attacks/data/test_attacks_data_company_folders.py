"""A folder as companies have it is read to the letter, split without leaks, and its drowning log is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.data.company_folders import attack


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 10))])
def test_all_claims_hold_of_a_folder_of_forty_files(tmp_path: Path, seed: int) -> None:
    counts = attack(seed, tmp_path, log_bytes=500_000)
    assert [what for what in counts if what.startswith("NOT")] == []
    assert counts["a text is read to the letter"] >= 30
    assert counts["a file without text is named with a reason"] == 7
