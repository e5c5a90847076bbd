"""Tiny builds that take a second or two: from the primer, and from a folder of text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.sample_text import sentences

if TYPE_CHECKING:
    from parakit.recipe import RecipeConfig

TINY_PRIMER: dict[str, Any] = {
    "size": "60k",
    "max_seq_len": 192,
    "text.primer.n_documents": 200,
    "tokenizer.vocab_size": 400,
    "pretrain.max_tokens": None,
    "pretrain.max_steps": 6,
    "pretrain.batch_tokens": 384,
    "conversations.primer.n_conversations": 80,
    "finetune.epochs": None,
    "finetune.max_steps": 3,
    "finetune.batch_tokens": 384,
    "preferences": None,  # the stages behind tuning have tests of their own
    "align": (),
    "distill": None,
    "evaluate.max_new_tokens": 2,
    "evaluate.suites.n_suite_items": 8,
    "prompts": ["One morning"],
    "questions": ["What is your name?"],
}
TINY_TEXT: dict[str, Any] = {
    "name": "mine",
    "size": "40k",
    "max_seq_len": 32,
    "tokenizer.vocab_size": 320,
    "pretrain.max_steps": 6,
    "pretrain.batch_tokens": 128,
    "prompts": ["the bird"],
}


def write_text(parent: Path) -> Path:
    """A folder with eight text files."""
    folder = parent / "text"
    folder.mkdir()
    for i in range(8):
        (folder / f"{i}.txt").write_text(sentences(i, 12))
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with eight text files."""
    return write_text(tmp_path)


@pytest.fixture
def text_recipe(text: Path) -> Callable[..., RecipeConfig]:
    """`text_recipe(**overrides)`: a recipe for the folder `text`; a double underscore stands for a dot."""

    def make(**overrides: Any) -> RecipeConfig:
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        from parakit.recipe import recipe_for_text

        return recipe_for_text([str(text)], TINY_TEXT | dotted)

    return make


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    """Forty conversations in a file."""
    return write_conversations(tmp_path)


def write_conversations(parent: Path) -> Path:
    """Forty conversations in a file."""
    rows = []
    for i in range(40):
        question, answer = sentences(100 + i, 1), sentences(200 + i, 1)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append(json.dumps({"messages": messages}))
    path = parent / "chats.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


def tiny_primer(**overrides: Any) -> RecipeConfig:
    """The built-in recipe at a tiny setting."""
    from parakit.recipe import built_in_recipe, load_recipe

    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_recipe(built_in_recipe(), TINY_PRIMER | dotted)


@pytest.fixture(scope="session")
def primer_recipe() -> Callable[..., RecipeConfig]:
    """`primer_recipe(**overrides)`: the built-in recipe at a tiny setting."""
    return tiny_primer


@pytest.fixture(scope="session")
def primer_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The built-in recipe, built once: the folder of builds (not to be changed) and the summary."""
    import torch

    from parakit.recipe import build

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    builds = tmp_path_factory.mktemp("primer") / "builds"
    return builds, build(tiny_primer(), builds).to_dict()
