"""Links inside a folder are followed as far as the named folders reach; each that is not is named, and none loops."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.readers.inputs import input_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("data/a.txt", "data/sub/b.txt", "other/secret.txt", "data-2/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"the text of {name}")
    return tmp_path / "data"


def read(*paths: Path, **settings: object) -> tuple[list[str], ReadReport]:
    report = ReadReport()
    config = TextConfig.parse({"paths": [str(path) for path in paths]} | settings)
    return [document.text for document in read_documents(config, report)], report


OUTSIDE: dict[str, Callable[[Path], str]] = {
    "the root": lambda folder: "/",
    "a file": lambda folder: str(folder.parent / "other" / "secret.txt"),
    "a folder": lambda folder: "../other",
    "the parent": lambda folder: "..",
    "a sibling whose name begins alike": lambda folder: "../data-2",
    "a chain": lambda folder: str(folder.parent / "hop"),
}


@pytest.mark.parametrize("name", list(OUTSIDE))
@pytest.mark.parametrize("place", ["", "sub"])
def test_a_link_out_of_the_folder_is_not_followed_and_is_named(folder: Path, name: str, place: str) -> None:
    (folder.parent / "hop").symlink_to("/etc")
    link = folder / place / "link"
    target = OUTSIDE[name](folder)
    link.symlink_to(
        os.path.relpath(folder.parent / target[3:], link.parent) if target[:2] == ".." else target
    )
    texts, report = read(folder)
    assert texts == ["the text of data/a.txt", "the text of data/sub/b.txt"]
    assert report.skipped == {"a link out of the folder": 1}
    [(source, reason)] = report.skipped_files
    assert source == f"data/{place}/link".replace("//", "/")
    assert f"to {os.path.realpath(link)}" in reason


def test_links_reach_as_far_as_the_named_folders(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent / "other")
    (folder / "again.txt").symlink_to(folder / "sub" / "b.txt")
    both, report = read(folder, folder.parent / "other")
    assert sorted(both) == sorted(
        {"the text of data/a.txt", "the text of data/sub/b.txt", "the text of other/secret.txt"}
    )
    assert set(report.skipped) == {"already read"}
    followed, _ = read(folder, follow_links=True)
    assert sorted(followed) == sorted(both)
    digest = input_digest(TextConfig(paths=(str(folder),)))
    assert digest != input_digest(TextConfig(paths=(str(folder),), follow_links=True))


def test_a_named_link_is_followed(folder: Path) -> None:
    (folder.parent / "named").symlink_to(folder)
    assert len(read(folder.parent / "named")[0]) == 2


def test_loops_of_links_end(folder: Path) -> None:
    (folder / "x").symlink_to(folder / "y")
    (folder / "y").symlink_to(folder / "x")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "sub" / "self").symlink_to("self")
    for settings in ({}, {"follow_links": True}):
        texts, report = read(folder, **settings)
        assert len(texts) == 2
        assert report.skipped == {"not a file": 3, "already read": 1}
