"""Damaged and hostile documents are read or left out with a reason, next to a good file that is always read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.attacks.documents import attack, hostile_files, run_batch, whole_files
from tests.attacks.row_files import damage

pytest.importorskip("resiliparse")
pytest.importorskip("trafilatura")


def damage_files(tmp_path: Path, n: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "in").mkdir()
    rng = random.Random(3)
    whole = whole_files(tmp_path / "whole")
    for name in rng.sample(sorted(whole), n or len(whole)):
        outcome, _ = attack(damage(whole[name], rng), name, tmp_path / "in")
        assert outcome in ("read", "left out"), name
        if not n:
            outcome, _ = attack(whole[name], name, tmp_path / "in")
            assert outcome == "read" or "warc" in name, name  # a crawl has pages that are left out


def test_some_damaged_files_do_no_harm(tmp_path: Path) -> None:
    damage_files(tmp_path, 8)


@pytest.mark.long
def test_one_damaged_file_of_each_format_does_no_harm(tmp_path: Path) -> None:
    damage_files(tmp_path, 0)


@pytest.mark.long
def test_hostile_files_are_bounded_in_memory_and_time() -> None:
    found = run_batch(list(hostile_files().items()), seconds=60)
    assert found["wrong"] == []
    assert int(str(found["grown_mib"])) < 600
