"""The input of a measure: the tiny random model of this folder's parent, with data that a test writes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parakit.evaluation.measures.measure import MeasureInput


@pytest.fixture
def given(model, tokenizer, tmp_path) -> MeasureInput:
    return MeasureInput(model, tokenizer, tmp_path / "model", tmp_path / "data", chat=False)


@pytest.fixture
def write_data(given) -> Callable[..., Path]:
    """Write rows as lines of JSON into the input's folder of data."""

    def write(name: str, rows: list[dict[str, Any]]) -> Path:
        path = given.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def check_result() -> Callable[..., None]:
    """What every result must hold: it is written and read unchanged, and its main score is the mean over its items."""

    def check(result, tmp_path: Path) -> None:
        from parakit.evaluation.results import read_result, write_items

        write_items(tmp_path, "measure", result.items)
        plain = json.loads(json.dumps({"benchmarks": {"measure": result.without_items()}}))
        again = read_result(tmp_path, "measure", plain)
        assert again == dataclasses.replace(result, items=again.items)
        assert again.items == result.items
        assert result.main in result.scores
        assert len({item.id for item in result.items}) == result.n == len(result.items)

    return check
