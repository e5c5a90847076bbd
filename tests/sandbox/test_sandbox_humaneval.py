"""The canonical solutions of HumanEval pass their own tests in the sandbox, all of them, and stubs do not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parakit.sandbox import UnitTests, parse_tests, run_tests_of_many

PublicData = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("isolation")


def problems(public_data: PublicData) -> list[dict[str, Any]]:
    with gzip.open(public_data("humaneval") / "HumanEval.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def row_tests(row: dict[str, Any]) -> UnitTests:
    shape = {"check": row["test"], "entry_point": row["entry_point"], "setup": row["prompt"]}
    return parse_tests(shape, row["task_id"])


def test_every_canonical_solution_passes(public_data: PublicData) -> None:
    rows = problems(public_data)
    results = run_tests_of_many([(row["canonical_solution"], row_tests(row)) for row in rows])
    assert len(results) == 164
    assert [v for v in zip(rows, results, strict=True) if v[1].outcome != "passed"] == []


def test_no_stub_passes(public_data: PublicData) -> None:
    """The prompt alone is a program whose functions return None."""
    rows = problems(public_data)[::4]
    results = run_tests_of_many([("    pass", row_tests(row)) for row in rows])
    assert {result.outcome for result in results} == {"failed"}
