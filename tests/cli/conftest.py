"""A folder of text, a tiny build of it, and the settings that make one take a second."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from parakit.common.seeds import rng

TINY = [
    *("text.validation_fraction=0.2", "text.test_fraction=0.2"),
    *("size=40k", "max_seq_len=32", "tokenizer.vocab_size=320"),
    *("pretrain.max_steps=4", "pretrain.batch_tokens=128", "pretrain.warmup_steps=1"),
]
WORDS = [
    "the",
    "a",
    "small",
    "old",
    "red",
    "bird",
    "tree",
    "house",
    "river",
    "sees",
    "likes",
    "finds",
    "near",
    "under",
    "and",
    "again",
]


def write_text(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i in range(8):
        random = rng(i, "sentences")
        lines = [" ".join(random.choice(WORDS, 9)) + "." for _ in range(12)]
        (folder / f"{i}.txt").write_text("\n\n".join(lines))
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Eight text files."""
    return write_text(tmp_path / "text")


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Forty conversations."""
    path, rows = tmp_path / "chats.jsonl", []
    for i in range(40):
        question, answer = (" ".join(rng(i, name).choice(WORDS, 3)) for name in ("question", "answer"))
        rows.append(
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Settings for `--set`."""
    return TINY


@pytest.fixture(scope="session")
def tiny_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build of text, made by the command. Not to be changed."""
    import torch

    from parakit.cli.main import main

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    root = tmp_path_factory.mktemp("tiny")
    text = write_text(root / "text")
    command = ["build", "--text", str(text), "--builds", str(root / "builds"), "--name", "mine"]
    assert main([*command, "--set", *TINY]) == 0
    return root / "builds" / "mine"
