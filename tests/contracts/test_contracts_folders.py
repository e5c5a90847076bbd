"""The doctor on folders: what would be learned is seen from the data, for every kind of it."""

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
from parakit.training.doctor import examine_folder
from tests.contracts.patients import CONVERSATIONS, DOCUMENTS, sentences
from tests.contracts.task_patients import LABELS

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
    "pretrain": "decoder",
    "chat": "decoder",
    "span_corruption": "encoder-decoder",
    "translate": "encoder-decoder",
}


def model_for(kind: str, vocab_size: int) -> Any:
    shape: Any = config_for_size("60k", vocab_size, 96, FAMILY.get(kind, "encoder")).config
    if kind in ("pretrain", "chat"):
        return LanguageModel(shape)
    if kind in ("span_corruption", "translate"):
        return SequenceToSequence(shape)
    if kind == "masked":
        return MaskedLanguageModel(shape)
    if kind == "embed":
        return Embedder(shape, EmbedderConfig())
    labels = ("score",) if kind == "regress" else LABELS
    level = "token" if kind == "tag" else "sequence"
    return Classifier(
        shape, ClassifierConfig(labels=labels, level=level, regression=kind == "regress", bias=True)
    )


@pytest.fixture
def folders(tmp_path: Path, noise_tokenizer: Tokenizer) -> Folders:
    def made(kind: str) -> tuple[Path, Path]:
        family: Any = FAMILY.get(kind, "encoder")
        model, data = tmp_path / "model", tmp_path / "data"
        save_model(model_for(kind, noise_tokenizer.vocab_size), noise_tokenizer, model, Lineage("model"))
        if kind in ROWS:
            lines = tmp_path / "rows.jsonl"
            lines.write_text("".join(json.dumps(ROWS[kind](i)) + "\n" for i in range(60)))
            labels = LABELS if kind in ("classify", "tag") else None
            prepare_examples([str(lines)], kind, tmp_path / "examples", labels=labels)
            return model, encode_examples(tmp_path / "examples", noise_tokenizer, data, family=family)
        items: Any = CONVERSATIONS if kind == "chat" else DOCUMENTS
        return model, write_shards({"train": items}, noise_tokenizer, data, family=family)

    return made


@pytest.mark.parametrize("kind", ["pretrain", "chat", "masked", "span_corruption", *ROWS])
def test_healthy_folders_pass_every_check(kind: str, folders: Folders) -> None:
    findings = examine_folder(*folders(kind))
    assert [finding.name for finding in findings if not finding.passed] == []
    assert len(findings) > 15


def test_a_model_for_another_task_is_named(
    folders: Folders, tmp_path: Path, noise_tokenizer: Tokenizer
) -> None:
    _, data = folders("tag")
    other = model_for("classify", noise_tokenizer.vocab_size)
    save_model(other, noise_tokenizer, tmp_path / "other", Lineage("model"))
    [fault] = [finding for finding in examine_folder(tmp_path / "other", data) if not finding.passed]
    assert fault.name == "head-differs"
    assert "labels each sequence" in fault.detail
    text = write_shards({"train": DOCUMENTS}, noise_tokenizer, tmp_path / "text")
    [fault] = [finding for finding in examine_folder(tmp_path / "other", text) if not finding.passed]
    assert fault.detail == "pretrain is learned by LanguageModel, and this is Classifier"
