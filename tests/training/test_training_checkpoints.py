"""Checkpoints on a bad day: cut, altered, a full disk, a read-only folder."""

from __future__ import annotations

import errno
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.training import train_state
from parakit.training.trainer import Trainer
from tests.training.tiny_runs import finish, tiny_trainer, weights


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After 2 and after 4 steps."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for record in tiny_trainer(folder).steps():
        if record.step == 5:
            break
    assert sorted(path.name for path in folder.glob("*")) == ["step-00000002", "step-00000004"]
    return folder


class Loader:
    """Loads again and again without building a session each time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trainer = folder, tiny_trainer(None)

    def step(self) -> int:
        s: Trainer = self.trainer
        return train_state.load_train_state(self.folder, s.model, s.optimizer, s.precision, s.guard)[0]


def places(newest: Path, n: int) -> list[tuple[Path, int]]:
    """`n` positions in the bytes of a checkpoint's files, spread by a seed."""
    files = sorted(path for path in newest.iterdir() if path.is_file())
    sizes = [path.stat().st_size for path in files]
    ends = np.cumsum(sizes)
    drawn = np.sort(rng(0, "places").choice(ends[-1], n, replace=False))
    which = np.searchsorted(ends, drawn, "right")
    return [(files[i], int(position - ends[i] + sizes[i])) for i, position in zip(which, drawn, strict=True)]


def flip_each(folder: Path, n: int, capsys: pytest.CaptureFixture[str]) -> None:
    loader = Loader(folder)
    for file, position in places(folder / "step-00000004", n):
        content = bytearray(file.read_bytes())
        content[position] ^= 1 << position % 8
        kept = file.read_bytes()
        file.write_bytes(content)
        assert loader.step() == 2, (file.name, position)
        told = capsys.readouterr().err
        assert "step-00000004" in told
        assert file.name in told
        file.write_bytes(kept)
    assert loader.step() == 4


def cut_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loader = Loader(folder)
    for file in sorted((folder / "step-00000004").iterdir()):
        kept = file.read_bytes()
        for size in sorted({0, 1, *range(4096, len(kept), 4096), len(kept.rstrip()) - 1}):
            file.write_bytes(kept[:size])
            assert loader.step() == 2, (file.name, size)
            assert file.name in capsys.readouterr().err
        file.unlink()
        assert loader.step() == 2, file.name
        assert file.name in capsys.readouterr().err
        file.write_bytes(kept)
    assert loader.step() == 4


def test_a_flipped_byte_is_refused_by_name_and_the_checkpoint_before_is_used(
    two_checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_each(two_checkpoints, 200, capsys)


@pytest.mark.long
def test_a_thousand_flipped_bytes_are_refused(
    two_checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_each(two_checkpoints, 1000, capsys)


def test_a_cut_or_missing_file_is_refused_by_name(
    two_checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_each(two_checkpoints, capsys)


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
