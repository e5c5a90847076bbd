"""Files appear whole or not at all, and unreadable JSON is named."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import read_json, sha256_file, write_json_atomic, write_text_atomic, writing_file


@given(st.binary(max_size=5000))
def test_sha256_is_that_of_the_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_comes_back_as_it_was_written(tmp_path: Path, text: str) -> None:
    write_text_atomic(tmp_path / "x", text)
    assert (tmp_path / "x").read_bytes() == text.encode()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_json_comes_back_and_nan_is_refused(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "x.json", {"é": [1, 2.5, None]})
    assert read_json(tmp_path / "x.json") == {"é": [1, 2.5, None]}
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON"):
            write_json_atomic(tmp_path / "x.json", {"loss": value})
    assert read_json(tmp_path / "x.json") == {"é": [1, 2.5, None]}


@pytest.mark.parametrize("name", ["fsync", "replace", "fdopen", "chmod"])
def test_a_disk_that_fails_at_any_step_leaves_the_old_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text_atomic(tmp_path / "x", "old")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with pytest.raises(UserError, match="No space left"):
            write_text_atomic(tmp_path / "x", "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x": "old"}


def test_a_block_that_raises_leaves_the_old_file(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "x", "old")

    def attempt() -> None:
        with writing_file(tmp_path / "x") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x": "old"}


def test_json_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "none.json")
    for content in (b"{", b"", b"\xff\xfe", json.dumps({"a": 1}).encode()[:-2]):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(CorruptArtifact, match=r"bad\.json"):
            read_json(tmp_path / "bad.json")
