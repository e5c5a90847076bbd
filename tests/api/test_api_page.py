"""Every example of docs/python.md runs, in order, on tiny models, and prints what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.sample_text import sentences

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)
NUMBER = re.compile(r"-?\d+\.\d+")


def assert_shown(printed: str, shown: str) -> None:
    """Equal text, but for fractions, which may differ by rounding on another processor."""
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.02)


def test_every_example_of_the_page_runs_and_prints_what_it_shows(
    folders, primer_build, tmp_path, monkeypatch, capsys
):
    builds = tmp_path / "builds"
    builds.mkdir()
    (builds / "primer").symlink_to(primer_build[0] / "primer")
    for name in ("encoder", "classifier", "translator"):
        (builds / name).symlink_to(folders / name)
    (tmp_path / "held-out.txt").write_text("\n\n".join(sentences(i, 4) for i in range(4)))
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 6
    namespace: dict[str, object] = {}
    for code, shown in blocks:
        exec(compile(code, str(PAGE), "exec"), namespace)
        printed = capsys.readouterr().out
        if shown or printed:
            assert_shown(printed, shown)
