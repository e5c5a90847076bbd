"""Bad input: a clear error with the way out, status 2, nothing half-written left, nothing existing touched."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from parakit.cli.main import main
from parakit.common import open_artifact


def tree(folder: Path) -> dict[str, str]:
    """Every entry below a folder, with its content's digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b"a folder"
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """`refused(*argv)` runs a command in the test's folder that must be refused without a trace, and
    returns what it said.
    """
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> str:
        before = tree(tmp_path)
        capsys.readouterr()
        status = main([str(word) for word in argv])
        output = capsys.readouterr()
        assert status == 2
        assert output.out == ""
        message = output.err[output.err.index("error: ") :]
        assert "Traceback" not in output.err
        assert len(message.splitlines()) >= 2, f"the way out is missing: {message}"
        assert tree(tmp_path) == before
        return message

    return run


def test_a_missing_path(refused, text):
    assert "texts: no such file" in refused("build", "--text", "texts")
    assert "did you mean text?" in refused("build", "--text", "texts", "--dry-run")
    assert "no.yaml: no such recipe file" in refused("build", "no.yaml")
    assert "no: no such" in refused("pretrain", "no", "--tokenizer", "no", "--output", "model")


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("build", "--text", "empty")
    (tmp_path / "empty/.hidden.txt").write_text("hidden " * 1000)
    assert "empty" in refused("build", "--text", "empty")


def test_a_binary_file(refused, tmp_path):
    (tmp_path / "photo.txt").write_bytes(bytes(range(256)) * 100)
    assert "photo.txt" in refused("build", "--text", "photo.txt")
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "photo.txt", tmp_path / "photos/photo.txt")
    assert "binary" in refused("build", "--text", "photos")


def test_a_corpus_smaller_than_one_batch(refused, text, tmp_path, tiny):
    (tmp_path / "a.txt").write_text("Too little.")
    assert "11 bytes" in refused("build", "--text", "a.txt")
    large = ["pretrain.batch_tokens=1000000", *tiny[:5], "pretrain.max_steps=4"]
    assert main(["build", "--text", "text", "--set", *tiny]) == 0
    shutil.rmtree(tmp_path / "builds/text/pretrain")
    shutil.rmtree(tmp_path / "builds/text/evaluate")
    output = refused("build", "--text", "text", "--set", *large)
    assert "fewer than one batch" in output
    assert "lower batch_tokens" in output


def test_a_recipe_with_a_typo(refused, tmp_path):
    (tmp_path / "r.yaml").write_text("text: {primer: {}}\npretrain: {learning_rat: 0.1}\n")
    assert "unknown key `pretrain.learning_rat`" in refused("build", "r.yaml")
    (tmp_path / "r.yaml").write_text(
        "text: {primer: {}}\npretrain: {schedule: cosine, decay_fraction: 0.1}\n"
    )
    assert "`pretrain.decay_fraction` is set but has no effect" in refused("build", "r.yaml")
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not readable as YAML" in refused("build", "r.yaml")


@pytest.mark.parametrize("name", ["train.bin", "train.offsets.npy", "index.json", "lineage.json"])
def test_a_damaged_shard(refused, tiny_build, tmp_path, name):
    shutil.copytree(tiny_build / "shards", tmp_path / "shards")
    file = tmp_path / "shards" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x80
    file.write_bytes(content)
    output = refused("pretrain", "shards", "--tokenizer", tiny_build / "tokenizer", "--output", "model")
    assert name in output
    file.write_bytes(content[:-3])
    assert name in refused("pretrain", "shards", "--tokenizer", tiny_build / "tokenizer", "--output", "model")


def test_an_existing_output_folder(refused, tiny_build, tmp_path, chats):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("precious " * 400)
    shards = [tiny_build / "shards", "--tokenizer", tiny_build / "tokenizer"]
    for command in (
        ["pretrain", *shards, "--output", "mine", "--max-steps", "1"],
        ["pretrain", *shards, "--output", "mine", "--max-steps", "1", "--overwrite"],
        ["finetune", tiny_build, "--conversations", "chats.jsonl", "--output", "mine"],
        ["text", "mine/notes.txt", "--output", "mine"],
        ["tokenizer", "train", tiny_build / "corpus", "--output", "mine"],
        ["tokenizer", "encode", tiny_build / "corpus", tiny_build / "tokenizer", "--output", "mine"],
        ["evaluate", tiny_build, "--text", "mine/notes.txt", "--output", "mine"],
        ["build", "--text", "mine", "--name", "mine", "--builds", "."],
    ):
        assert "mine" in refused(*command)


def test_a_build_folder_that_is_a_file(refused, text, tmp_path):
    (tmp_path / "builds").write_text("a file")
    assert "builds" in refused("build", "--text", "text")


def test_a_model_folder_that_is_none(refused, tiny_build, text, chats):
    for folder in ("text", "absent", tiny_build / "shards", "chats.jsonl"):
        name = Path(folder).name
        for command in (
            ["generate", folder, "the bird"],
            ["chat", folder],
            ["evaluate", folder, "--suites"],
            ["finetune", folder, "--conversations", "chats.jsonl", "--output", "tuned"],
        ):
            assert name in refused(*command)


class FullDisk:
    """`os.fsync` that finds the disk full from its `n`-th call on: every artifact and file passes there."""

    def __init__(self, n: int) -> None:
        self.left, self.fsync = n, os.fsync

    def __call__(self, descriptor: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.fsync(descriptor)


def half_written(folder: Path) -> list[Path]:
    """Folders that are no whole artifact, and temporary names."""
    found = [path for path in folder.rglob(".*") if path.name.count(".") > 1 or path.name == ".lock"]
    for path in folder.rglob("manifest.json"):
        open_artifact(path.parent)
    return found


@pytest.mark.parametrize("n", [0, 3, 9, 20, 26, 30, 44, 60, 75])
def test_a_full_disk_at_any_write(capsys, text, tmp_path, tiny, monkeypatch, n):
    """The error says so, what stands is whole, and the same command goes on when there is room again."""
    monkeypatch.chdir(tmp_path)
    command = ["build", "--text", "text", "--set", *tiny, "pretrain.save_every=1"]
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", FullDisk(n))
        assert main(command) == 2, "the disk was never full"
    output = capsys.readouterr().err
    assert "No space left on device" in output
    assert "free some space" in output
    assert "Traceback" not in output
    assert half_written(tmp_path) == []
    assert (tmp_path / "builds").exists() == (n > 0 and any((tmp_path / "builds").glob("*/*")))
    if n in (0, 30, 60):
        assert main(command) == 0


def test_a_full_disk_leaves_the_old_model_where_it_was(refused, tiny_build, tmp_path, monkeypatch):
    shutil.copytree(tiny_build / "pretrain", tmp_path / "model")
    shards = [tiny_build / "shards", "--tokenizer", tiny_build / "tokenizer", "--output", "model"]
    size = ["--size", "40k", "--max-seq-len", "32", "--batch-tokens", "128", "--max-steps", "2"]
    monkeypatch.setattr(os, "fsync", FullDisk(2))
    assert "No space left" in refused("pretrain", *shards, *size, "--overwrite")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 400 kB, where this may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(place)]
    if (
        os.geteuid() != 0
        or not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("no disk can be mounted here")
    yield place
    gc.collect()  # shards that an exception's frames still map would keep the disk busy
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(capsys, text, tiny, small_disk):
    command = [
        "build",
        "--text",
        str(text),
        "--name",
        "mine",
        "--builds",
        str(small_disk / "b"),
        "--set",
        *tiny,
    ]
    for filling in (0, 250_000, 380_000):
        shutil.rmtree(small_disk / "b", ignore_errors=True)
        (small_disk / "ballast").write_bytes(b"x" * filling)
        assert main([*command, "size=150k"]) == 2
        output = capsys.readouterr().err
        assert "error: " in output
        assert "Traceback" not in output
        assert half_written(small_disk) == []


def test_a_folder_that_may_not_be_written(refused, text, tmp_path, monkeypatch):
    def denied(*arguments, **settings):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "builds")

    monkeypatch.setattr(Path, "mkdir", denied)
    assert "Permission denied" in refused("build", "--text", "text")
