"""Checkpoints on a bad day: cut, altered, a full disk, a read-only folder."""

from __future__ import annotations

import errno
import resource
import shutil
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.training.trainer import Trainer
from tests.training.parallel.damaged_checkpoints import (
    Damage,
    Loader,
    cut_each,
    flip_each,
    leave_two,
    leave_two_in_parts,
)
from tests.training.parallel.forked import in_processes
from tests.training.parallel.spread_runs import spread_trainer
from tests.training.tiny_runs import finish, tiny_trainer, weights


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After 2 and after 4 steps."""
    folder = tmp_path_factory.mktemp("checkpoints")
    leave_two(folder)
    assert sorted(path.name for path in folder.glob("*")) == ["step-00000002", "step-00000004"]
    return folder


@pytest.mark.parametrize("n", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_a_flipped_byte_is_refused_by_name_and_the_checkpoint_before_is_used(
    n: int, two_checkpoints: Path
) -> None:
    loader, damage = Loader(two_checkpoints), Damage()
    flip_each(loader, n, damage)
    assert damage.violations == []
    assert damage.flips == n
    assert loader.step() == 4


def test_a_cut_or_missing_file_is_refused_by_name(two_checkpoints: Path) -> None:
    loader, damage = Loader(two_checkpoints), Damage()
    cut_each(loader, damage)
    assert damage.violations == []
    assert loader.step() == 4


@pytest.mark.long
def test_damage_of_a_checkpoint_in_parts_is_refused_by_name(tmp_path: Path) -> None:
    in_processes(2, leave_two_in_parts, tmp_path)
    loader, damage = Loader(tmp_path, spread_trainer("next_token", None, save_every=2)), Damage()
    flip_each(loader, 60, damage)
    cut_each(loader, damage)
    assert damage.violations == []
    assert loader.step() == 4


def test_without_a_whole_checkpoint_the_run_begins_anew_and_says_so(
    two_checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(two_checkpoints, tmp_path / "copy")
    for path in folder.glob("step-*"):
        (path / "weights.safetensors").write_bytes(b"")
    assert Loader(folder).step() == 0
    assert capsys.readouterr().err.count("weights.safetensors") == 2


@pytest.mark.parametrize("damage", ["flip", "no lineage", "newer"])
def test_a_run_goes_on_over_a_damaged_checkpoint(damage: str, two_checkpoints: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two_checkpoints, tmp_path / "copy")
    newest = folder / "step-00000004"
    if damage == "newer":  # stands where the run will never be again
        newest = newest.rename(folder / "step-00000099")
    (newest / ("lineage.json" if damage == "no lineage" else "state.json")).unlink()
    trainer = tiny_trainer(folder)
    assert trainer.first_step == 2
    finish(trainer)
    unbroken = tiny_trainer(None)
    finish(unbroken)
    assert weights(trainer.model) == weights(unbroken.model)
    assert sorted(path.name for path in folder.glob("*")) == ["step-00000010", "step-00000012"]


def test_what_a_kill_left_of_a_save_is_cleared_away(two_checkpoints: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two_checkpoints, tmp_path / "copy")
    half = folder / ".step-00000006.abc123.partial"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert Loader(folder).step() == 4
    assert not half.exists()


def broken_save(trainer: Trainer, folder: Path) -> UserError:
    """Take steps until a save fails; what was there must still load."""
    with pytest.raises(UserError) as caught:
        finish(trainer)
    assert [path.name for path in sorted(folder.glob("*"))] == ["step-00000002"], (
        "something half-written is left"
    )
    return caught.value


@pytest.fixture
def saved_once(tmp_path: Path) -> tuple[Trainer, Path]:
    folder = tmp_path / "work"
    for record in tiny_trainer(folder).steps():
        if record.step == 3:
            break
    return tiny_trainer(folder), folder


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("operation", ["mkdtemp", "fsync", "rename"])
def test_a_write_that_fails_leaves_the_older_checkpoint_and_says_what_happened(
    operation: str, code: int, saved_once: tuple[Trainer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, folder = saved_once

    def fails(*arguments: object, **settings: object) -> None:
        raise OSError(code, "broken", str(folder))

    with monkeypatch.context() as patch:
        if operation == "mkdtemp":
            patch.setattr("parakit.common.locks.tempfile.mkdtemp", fails)
        else:
            patch.setattr(f"os.{operation}", fails)
        error = broken_save(trainer, folder)
    assert "cannot be written" in error.message
    assert error.hint
    assert tiny_trainer(folder).first_step == 2


def test_a_disk_that_is_really_full(saved_once: tuple[Trainer, Path]) -> None:
    """The kernel refuses to let files grow, as it does on a full disk."""
    trainer, folder = saved_once
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        error = broken_save(trainer, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in error.message
    resumed = tiny_trainer(folder)
    assert resumed.first_step == 2
    finish(resumed)
