"""`--resume` names what changed and asks; `--find-rate` proposes a learning rate and writes a picture only."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from parakit.common.artifacts import open_artifact
from parakit.stages.planning.rate_finder import RateRange
from parakit.training.metrics import read_metrics
from tests.cli.test_cli_other_runs import Run, pretrain  # noqa: F401 (a fixture)


class Terminal(io.StringIO):
    """Standard input that answers."""

    def isatty(self) -> bool:
        return True


def test_other_settings_continue_a_run_after_a_yes(
    pretrain: Run,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert pretrain("model", killed_at=9)[0] == 130
    changed = {"learning_rate": "0.003", "batch_tokens": "32"}
    status, printed = pretrain("model", "--resume", **changed)
    assert status == 2
    assert "add --yes" in printed
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    status, printed = pretrain("model", "--resume", **changed)
    assert status == 2
    assert "is not resumed" in printed
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    status, printed = pretrain("model", "--resume", **changed)
    assert status == 0
    assert "learning_rate not set, now 0.003" in printed
    assert "32 rows were read, now row 16 comes next: 16 rows are read again" in printed
    assert "resuming after step 8 of 20" in printed
    result = open_artifact(tmp_path / "model", "model").lineage["result"]
    assert result["resumed_with"]["step"] == 8
    rows = read_metrics(tmp_path / "model/training/metrics.jsonl")
    rates = {row["step"]: row["learning_rate"] for row in rows if row["kind"] == "step"}
    assert sorted(rates) == list(range(1, 21))
    assert max(rates[step] for step in range(9, 21)) <= 0.003 < rates[8]
    assert not (tmp_path / ".model.work").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"size": "90k"}, "its model differs in"),
        ({"optimizer": "adamw"}, "has the state of muon"),
        ({"max_steps": "8"}, "has taken 8 steps"),
    ],
    ids=str,
)
def test_what_a_checkpoint_cannot_become_is_refused(
    pretrain: Run,  # noqa: F811
    flags: dict[str, str],
    words: str,
) -> None:
    assert pretrain("model", killed_at=9)[0] == 130
    status, printed = pretrain("model", "--resume", "--yes", **flags)
    assert status == 2
    assert words in printed


def test_resume_without_anything_to_resume_is_refused(pretrain: Run) -> None:  # noqa: F811
    status, printed = pretrain("model", "--resume", "--yes")
    assert status == 2
    assert "no interrupted run of this output" in printed


def test_a_rate_is_proposed_and_only_the_picture_written(
    pretrain: Run,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("parakit.stages.planning.rate_finder.N_STEPS", 40)
    status, printed = pretrain("model", "--find-rate")
    assert status == 0
    assert "the loss falls fastest at" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["model.rates.svg"]
    assert "<svg" in (tmp_path / "model.rates.svg").read_text()


def test_the_proposed_rate_is_where_the_loss_falls_fastest() -> None:
    """A loss that is flat to 1e-4, falls to 1e-2 and rises after it, over five decades."""
    rates = [1e-6 * 10 ** (i / 20) for i in range(101)]
    losses = [3 - 2 / (1 + (1e-3 / rate) ** 2) + max(0.0, rate - 1e-2) * 50 for rate in rates]
    found = RateRange(rates, losses, 1e-3)
    assert 3e-4 < found.proposed < 3e-3
    assert found.proposed < found.lowest
    assert json.loads(json.dumps(found.to_dict()))["learning_rate"] == found.proposed
