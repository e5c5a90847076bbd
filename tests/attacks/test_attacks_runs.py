"""Small samples of the attacks on runs and files; the programs take larger ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.cli.main import main
from tests.attacks.damage import attack, interrupted_run, targets
from tests.attacks.kills import kill_runs
from tests.attacks.training_inputs import COMMANDS, command_of, make_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("attacks")
    made = make_inputs(folder / "inputs")
    assert main(command_of("pretrain", made, folder / "warm")) == 0
    made["interrupted"] = interrupted_run(made, folder / "interrupted")
    return made


@pytest.mark.parametrize(
    ("command", "n"),
    [
        ("pretrain", 3),
        *(pytest.param(name, 10, marks=pytest.mark.long, id=f"{name}-long") for name in COMMANDS),
    ],
)
def test_a_killed_run_ends_as_one_that_was_not(
    command: str, n: int, inputs: dict[str, Path], tmp_path: Path
) -> None:
    killed = kill_runs(command, inputs, tmp_path / "runs", n, seed=3)
    assert killed.violations == []
    assert killed.runs == n
    assert killed.kills or n < 10


@pytest.mark.parametrize("n", [2, pytest.param(30, marks=pytest.mark.long)])
def test_a_damaged_file_is_refused_by_name_or_recovered_from(
    n: int, inputs: dict[str, Path], tmp_path: Path
) -> None:
    for target in targets(inputs):
        found = attack(target, tmp_path / target.name, n, seed=3)
        assert found.violations == []
        assert found.cases == n
