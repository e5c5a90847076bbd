"""Checks of folders: the task follows from the data, for every task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parakit.checkpoints import save_model
from parakit.common.artifacts import Lineage
from parakit.data.examples import prepare_examples
from parakit.model.config import ClassifierConfig, EmbedderConfig
from parakit.model.heads import Classifier, Embedder, LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.model.presets import config_for_size
from parakit.tokens.examples.encoding import encode_examples
from parakit.tokens.shards import write_shards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.doctor import check_folder
from tests.contracts.task_cases import LABELS
from tests.contracts.training_cases import CONVERSATIONS, DOCUMENTS, sentences

Folders = Callable[[str], tuple[Path, Path]]
ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "classify": lambda i: {"text": sentences(i), "label": LABELS[i % 3]},
    "tag": lambda i: {
        "words": sentences(i).split(),
        "tags": [LABELS[j % 3] for j in range(len(sentences(i).split()))],
    },
    "regress": lambda i: {"text": sentences(i), "score": (i % 7) / 3},
    "translate": lambda i: {"source": sentences(i), "target": sentences(i).upper()},
    "embed": lambda i: {"text": sentences(i), "positive": f"So it is: {sentences(i)}"},
}
FAMILY = {
    "next_token": "decoder",
    "chat": "decoder",
    "span_corruption": "encoder-decoder",
    "translate": "encoder-decoder",
}


def model_for(task: str, vocab_size: int) -> Any:
    shape: Any = config_for_size("60k", vocab_size, 96, FAMILY.get(task, "encoder")).config
    if task in ("next_token", "chat"):
        return LanguageModel(shape)
    if task in ("span_corruption", "translate"):
        return SequenceToSequence(shape)
    if task == "masked":
        return MaskedLanguageModel(shape)
    if task == "embed":
        return Embedder(shape, EmbedderConfig())
    labels = ("score",) if task == "regress" else LABELS
    level = "token" if task == "tag" else "sequence"
    return Classifier(
        shape, ClassifierConfig(labels=labels, level=level, regression=task == "regress", bias=True)
    )


@pytest.fixture
def folders(tmp_path: Path, noise_tokenizer: Tokenizer) -> Folders:
    def made(task: str) -> tuple[Path, Path]:
        family: Any = FAMILY.get(task, "encoder")
        model, data = tmp_path / "model", tmp_path / "data"
        save_model(model_for(task, noise_tokenizer.vocab_size), noise_tokenizer, model, Lineage("model"))
        if task in ROWS:
            lines = tmp_path / "rows.jsonl"
            lines.write_text("".join(json.dumps(ROWS[task](i)) + "\n" for i in range(60)))
            labels = LABELS if task in ("classify", "tag") else None
            prepare_examples([str(lines)], task, tmp_path / "examples", labels=labels)
            return model, encode_examples(tmp_path / "examples", noise_tokenizer, data, family=family)
        items: Any = CONVERSATIONS if task == "chat" else DOCUMENTS
        return model, write_shards({"train": items}, noise_tokenizer, data, family=family)

    return made


@pytest.mark.parametrize("task", ["next_token", "chat", "masked", "span_corruption", *ROWS])
def test_healthy_folders_pass_every_check(task: str, folders: Folders) -> None:
    results = check_folder(*folders(task))
    assert [result.name for result in results if not result.passed] == []
    assert len(results) > 15


@pytest.mark.catches("head-differs")
def test_a_model_for_another_task_is_named(
    folders: Folders, tmp_path: Path, noise_tokenizer: Tokenizer
) -> None:
    _, data = folders("tag")
    other = model_for("classify", noise_tokenizer.vocab_size)
    save_model(other, noise_tokenizer, tmp_path / "other", Lineage("model"))
    [failure] = [result for result in check_folder(tmp_path / "other", data) if not result.passed]
    assert failure.name == "head-differs"
    assert "labels each sequence" in failure.detail
    text = write_shards({"train": DOCUMENTS}, noise_tokenizer, tmp_path / "text")
    [failure] = [result for result in check_folder(tmp_path / "other", text) if not result.passed]
    assert failure.detail == "task next_token trains a LanguageModel, and this is a Classifier"
