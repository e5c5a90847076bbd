"""Every example of docs/python.md runs, in order, on tiny models, and prints what the page shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from parakit.recipe.sweeps import running
from tests.recipe.test_recipe_sweeps import here
from tests.sample_text import sentences

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)
NUMBER = re.compile(r"-?\d+\.\d+")


TINY = {'"1m"': '"60k"', "max_steps=300": "max_steps=2", '_steps": 300': '_steps": 2'}
RECIPE = """text: {paths: [text.txt], validation_fraction: 0.2}
tokenizer: {vocab_size: 320}
max_seq_len: 64
pretrain: {batch_tokens: 128}
prompts: [the bird]
"""


def write_inputs(folder: Path) -> None:
    """The files that the page names."""
    (folder / "held-out.txt").write_text("\n\n".join(sentences(i, 4) for i in range(4)))
    (folder / "text.txt").write_text("\n\n".join(sentences(i, 12) for i in range(160)))
    (folder / "recipe.yaml").write_text(RECIPE)
    chats, pairs = [], []
    for i in range(200):
        prompt = [{"role": "user", "content": sentences(100 + i, 1)}]
        chats.append({"messages": [*prompt, {"role": "assistant", "content": sentences(200 + i, 1)}]})
        pairs.append({"prompt": prompt, "chosen": sentences(300 + i, 1), "rejected": sentences(400 + i, 1)})
    for name, rows in (("chats", chats), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


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
    write_inputs(tmp_path)
    monkeypatch.setattr(running, "start_process", here)  # runs of a sweep, in this process
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 6
    namespace: dict[str, object] = {}
    for code, shown in blocks:
        for real, tiny in TINY.items():
            code = code.replace(real, tiny)
        exec(compile(code, str(PAGE), "exec"), namespace)
        printed = capsys.readouterr().out
        if shown or printed:
            assert_shown(printed, shown)
