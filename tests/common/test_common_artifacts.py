"""Artifact folders appear whole or not at all, and a changed byte is noticed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.common import artifacts, files
from parakit.common.artifacts import Lineage, open_artifact, verify_manifest, writing_artifact
from parakit.common.errors import CorruptArtifact, UserError


def make(path: Path, text: str = "hello", overwrite: bool = False, **lineage: object) -> Path:
    with writing_artifact(path, Lineage("corpus", **lineage), overwrite) as folder:  # type: ignore[arg-type]
        (folder / "train.jsonl").write_text(text)
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "data.bin").write_bytes(bytes(range(256)))
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_artifact_records_its_kind_and_parents(tmp_path: Path) -> None:
    parent = make(tmp_path / "parent")
    lineage = Lineage("tokenizer", config={"vocab_size": 5}, parents=[parent], seed=3)
    with writing_artifact(tmp_path / "child", lineage) as folder:
        (folder / "tokenizer.json").write_text("{}")
        lineage.result["bytes_per_token"] = 4.2
    child = open_artifact(tmp_path / "child", "tokenizer")
    record = child.lineage
    assert record["parents"] == [
        {"kind": "corpus", "digest": open_artifact(parent).digest, "path": str(parent)}
    ]
    assert record["config"] == {"vocab_size": 5}
    assert record["result"] == {"bytes_per_token": 4.2}
    assert (record["seed"], record["kind"], child.kind) == (3, "tokenizer", "tokenizer")
    assert {"version", "hardware", "seconds", "created", "digest"} <= set(record)
    assert json.loads((child.path / "manifest.json").read_text())["files"].keys() == {
        "tokenizer.json",
        "lineage.json",
    }


def test_the_digest_names_the_content(tmp_path: Path) -> None:
    same = [open_artifact(make(tmp_path / name)).digest for name in "ab"]
    assert same[0] == same[1]
    others = [
        make(tmp_path / "c", text="hallo"),
        make(tmp_path / "d", seed=1),
        make(tmp_path / "e", config={"x": 1}),
        make(tmp_path / "f", parents=[tmp_path / "a"]),
    ]
    digests = {open_artifact(path).digest for path in others}
    assert len(digests | set(same)) == 5


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "a")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="exists already"):
        make(tmp_path / "a")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kernel_swaps", [True, False])
def test_overwriting_replaces_an_artifact_and_leaves_no_other_folder(
    kernel_swaps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel_swaps:
        monkeypatch.setattr(artifacts, "_exchange", lambda one, other: False)
    make(tmp_path / "a")
    make(tmp_path / "a", text="new", overwrite=True)
    assert (tmp_path / "a" / "train.jsonl").read_text() == "new"
    open_artifact(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_overwriting_never_replaces_what_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear Ann")
    (tmp_path / "file").write_text("x")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="not a Parakit artifact"):
        make(tmp_path / "letters", overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        make(tmp_path / "file", overwrite=True)
    assert snapshot(tmp_path) == before


def test_an_empty_folder_may_be_filled_by_overwriting(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    open_artifact(make(tmp_path / "a", overwrite=True))


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(3), UserError("y")])
def test_a_block_that_raises_leaves_nothing_and_the_error_is_unchanged(
    error: BaseException, tmp_path: Path
) -> None:
    make(tmp_path / "old")
    before = snapshot(tmp_path)

    def attempt(name: str) -> None:
        with writing_artifact(tmp_path / name, Lineage("corpus"), overwrite=True) as folder:
            (folder / "half").write_text("half")
            raise error

    for name in ("old", "new"):
        with pytest.raises(type(error)) as caught:
            attempt(name)
        assert caught.value is error
    assert snapshot(tmp_path) == before


def _attempt(path: Path) -> str:
    try:
        make(path, text="new", overwrite=True)
    except UserError as error:
        return str(error)
    return ""


STEPS = [
    (os, "rename"),
    (os, "fsync"),
    (os, "replace"),
    (os, "chmod"),
    (artifacts, "fsync_file"),
    (artifacts, "fsync_folder"),
    (artifacts, "sha256_file"),
    (artifacts, "write_json_atomic"),
    (files, "write_text_atomic"),
]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_disk_that_fails_at_any_step_leaves_the_old_artifact(
    owner: object, name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is made to fail at its first, second, ... call until an attempt gets through untouched."""
    monkeypatch.setattr(artifacts, "_exchange", lambda one, other: False)
    make(tmp_path / "a", text="old")
    before = snapshot(tmp_path)
    real = getattr(owner, name)
    for failing_call in range(1, 30):
        calls = 0

        def flaky(*args: object, failing_call: int = failing_call, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == failing_call:
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, flaky)
            fault = _attempt(tmp_path / "a")
        if fault:
            assert fault.startswith(f"{tmp_path / 'a'}: cannot be written: {os.strerror(number)}")
        if calls < failing_call:
            assert failing_call > 1, "the step was never reached"
            break
        after = snapshot(tmp_path)
        open_artifact(tmp_path / "a")
        if (tmp_path / "a" / "train.jsonl").read_text() == "old":
            assert after == before
        else:  # only what comes after the swap may fail once the new artifact is in place
            assert name in ("fsync", "fsync_folder")
            assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["a"]
    else:
        pytest.fail("the step is called without end")
    assert (tmp_path / "a" / "train.jsonl").read_text() == "new"


def test_a_full_disk_while_the_block_writes_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    def attempt() -> None:
        with writing_artifact(tmp_path / "a", Lineage("corpus")) as folder:
            (folder / "half").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match="No space left"):
        attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)
def test_a_disk_that_really_is_full_leaves_the_old_artifact(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here")
    try:
        make(disk / "a", text="old")
        before = snapshot(disk)
        with pytest.raises(UserError, match="No space left"):
            make(disk / "a", text="x" * 400_000, overwrite=True)
        assert snapshot(disk) == before
        open_artifact(disk / "a")
    finally:
        subprocess.run(["umount", str(disk)], check=True, capture_output=True, timeout=20)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write into a read-only folder"
)
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir(mode=0o555)
    with pytest.raises(UserError, match="Permission denied"):
        make(tmp_path / "shelf" / "a")


def test_a_file_where_a_folder_must_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("x")
    with pytest.raises(UserError, match="shelf"):
        make(tmp_path / "shelf" / "a")


@pytest.mark.parametrize("name", ["train.jsonl", "deep/er/data.bin", "lineage.json", "manifest.json"])
def test_every_kind_of_damage_to_every_file_is_noticed(name: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a", config={"seed": 1})
    file = path / name
    whole = file.read_bytes()
    for damaged in (whole[:-2], whole[: len(whole) // 2], b"", whole + b"\n\n0", whole[::-1]):
        file.write_bytes(damaged)
        with pytest.raises(CorruptArtifact):
            open_artifact(path)
    file.unlink()
    with pytest.raises(UserError, match=name.rpartition("/")[2]):
        open_artifact(path)


@settings(max_examples=300)
@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped"
    if not path.exists():
        make(path)
    name = data.draw(st.sampled_from(["train.jsonl", "deep/er/data.bin", "lineage.json", "manifest.json"]))
    file = path / name
    whole = file.read_bytes()
    position = data.draw(st.integers(0, len(whole) * 8 - 1))
    damaged = bytearray(whole)
    damaged[position // 8] ^= 1 << position % 8
    file.write_bytes(damaged)
    try:
        with pytest.raises(CorruptArtifact):
            open_artifact(path)
    finally:
        file.write_bytes(whole)
    open_artifact(path)


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"files": 3}', '{"files": {"train.jsonl": 3}}', '{"files": {}}', "null"]
)
def test_a_manifest_of_another_shape_is_damage(manifest: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a")
    (path / "manifest.json").write_text(manifest)
    with pytest.raises(CorruptArtifact):
        open_artifact(path)


def test_a_lineage_of_another_shape_is_damage_even_without_verifying(tmp_path: Path) -> None:
    path = make(tmp_path / "a")
    for text in ("[]", "{}", "null", '{"kind": "corpus"}', "{"):
        (path / "lineage.json").write_text(text)
        with pytest.raises(CorruptArtifact):
            open_artifact(path, verify=False)


def test_an_extra_file_is_noticed(tmp_path: Path) -> None:
    path = make(tmp_path / "a")
    (path / "deep" / "extra.txt").write_text("x")
    with pytest.raises(CorruptArtifact, match=r"extra\.txt: does not belong"):
        verify_manifest(path)


def test_a_swap_of_two_files_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with writing_artifact(path, Lineage("shards")) as folder:
        (folder / "train.bin").write_bytes(b"abcd")
        (folder / "validation.bin").write_bytes(b"efgh")
    (path / "train.bin").write_bytes(b"efgh")
    (path / "validation.bin").write_bytes(b"abcd")
    with pytest.raises(CorruptArtifact, match="sha256"):
        open_artifact(path)


def test_other_folders_are_no_artifacts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_artifact(tmp_path / "none")
    with pytest.raises(UserError, match="not a Parakit artifact"):
        open_artifact(tmp_path)
    path = make(tmp_path / "a")
    with pytest.raises(UserError, match="holds a corpus, but a model is needed"):
        open_artifact(path, "model")
    with pytest.raises(UserError, match="model or evaluation"):
        open_artifact(path, ("model", "evaluation"))
    assert open_artifact(path, ("model", "corpus")).kind == "corpus"


def test_a_parent_that_is_no_artifact_is_refused_before_any_work(tmp_path: Path) -> None:
    reached = False

    def attempt() -> None:
        nonlocal reached
        with writing_artifact(tmp_path / "a", Lineage("model", parents=[tmp_path / "none"])):
            reached = True

    with pytest.raises(UserError, match="none"):
        attempt()
    assert not reached
    assert list(tmp_path.iterdir()) == []
