"""The real models through every command, each row of the benchmark `real_models` against its peer and within its target."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.quality.real_models.commands import ROWS, real_models
from benchmarks.quality.real_models.session import Session
from benchmarks.registry import all_met, load, rows
from tests.real_models import models_folder

for _library in ("transformers", "peft", "trl", "datasets", "sentence_transformers"):
    pytest.importorskip(_library)
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def session(published_model: Callable[[str], Path], public_data: Callable[[str], Path]) -> Iterator[Session]:
    """One folder for all rows, next to the models: a copy of them is large."""
    for name in ("smollm2", "minilm"):
        published_model(name)
    data = public_data("llms_from_scratch_instruct").parent
    with tempfile.TemporaryDirectory(prefix="commands-", dir=models_folder()) as folder:
        yield Session(Path(folder), data)


@pytest.mark.parametrize("name", ROWS)
def test_a_command_agrees_with_its_peer(session: Session, name: str) -> None:
    targets = {path: one for path, one in load("real_models").targets.items() if path.startswith(f"{name}.")}
    judged = rows({name: ROWS[name](session)}, targets)
    assert all_met(judged), judged


def test_every_row_has_a_target() -> None:
    assert real_models.__name__ == load("real_models").run.__name__
    targeted = {path.partition(".")[0] for path, (limit, _) in load("real_models").targets.items() if limit}
    assert targeted == set(ROWS)
