"""The index of an assistant, brought up to date by a build, and answers that an interrupted measurement keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.assistants.retrieval.search import DocumentIndex
from parakit.checkpoints.import_export import import_model
from parakit.common.artifacts import open_artifact
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.local import LocalChatModel
from parakit.stages.documents.assistant import (
    StoredAnswers,
    make_assistant_index,
    measure_assistant,
    own_questions,
)
from parakit.stages.documents.config import AssistantIndexConfig


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.md").write_text(f"# Borvik{i}\n\nThe town of Borvik{i} was founded in {1300 + i}.\n")
    return folder


def config(docs: Path, **settings: object) -> AssistantIndexConfig:
    return AssistantIndexConfig.parse({"paths": (str(docs),), "encoder": "none", **settings}, "index")


def test_only_what_changed_is_read_again_and_settings_are_those_of_the_recipe(docs, tmp_path):
    out = tmp_path / "index"
    make_assistant_index(config(docs, passage_chars=500), out)
    (docs / "0.md").write_text("# Borvik0\n\nThe town of Borvik0 was founded in 1999.\n")
    make_assistant_index(config(docs, passage_chars=500), out)
    assert open_artifact(out).lineage["result"]["files"]["changed"] == 1
    make_assistant_index(config(docs), out)
    assert open_artifact(out).lineage["config"]["passage_chars"] == 800


def test_other_documents_replace_the_index(docs, tmp_path):
    out, other = tmp_path / "index", tmp_path / "other"
    make_assistant_index(config(docs), out)
    other.mkdir()
    (other / "tea.md").write_text("# Tea\n\nGreen tea is brewed at eighty degrees.\n")
    make_assistant_index(config(other), out)
    index = DocumentIndex(out)
    assert [one.source for one in index.passages()] == ["other/tea.md"]
    assert index.threshold is None  # no question is made of it


def test_questions_that_fit_are_not_those_that_measure(docs, tmp_path):
    out = tmp_path / "index"
    make_assistant_index(config(docs), out)
    index = DocumentIndex(out)
    assert index.threshold is not None
    fitted, measured = (own_questions(index, config(docs), held_out=which) for which in (False, True))
    assert fitted
    assert measured
    assert not {one.question for one in fitted} & {one.question for one in measured}
    rows = [f'{{"question": "When {i}?", "relevant": ["{i}.md"], "answers": ["x"]}}' for i in range(5)]
    (tmp_path / "own.jsonl").write_text("\n".join(rows) + "\n")
    own = config(docs, questions=str(tmp_path / "own.jsonl"))
    assert [one.question for one in own_questions(index, own, held_out=False)] == [
        "When 0?",
        "When 2?",
        "When 4?",
    ]
    assert [one.question for one in own_questions(index, own, held_out=True)] == ["When 1?", "When 3?"]


def test_an_answer_is_computed_once(published_decoder, tmp_path, monkeypatch):
    model = StoredAnswers.of(LocalChatModel.load(published_decoder), tmp_path / "answers.jsonl")
    conversations = [(Message("user", text),) for text in ("the bird", "the river")]
    first = model.generate(conversations, max_new_tokens=3)
    assert first == LocalChatModel.load(published_decoder).generate(conversations, max_new_tokens=3)
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 2

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it is computed again")

    monkeypatch.setattr("parakit.inference.chat_models.local.generate_batch", fail)
    assert model.generate(conversations, max_new_tokens=3) == first
    with pytest.raises(AssertionError):
        model.generate(conversations, max_new_tokens=2)


def test_without_questions_nothing_is_measured_and_nothing_fails(published_decoder, tmp_path, capsys):
    docs = tmp_path / "teas"
    docs.mkdir()
    (docs / "tea.md").write_text("# Tea\n\nGreen tea is brewed at eighty degrees.\n")
    make_assistant_index(config(docs), tmp_path / "index")
    models = {"tuned": import_model(str(published_decoder), tmp_path / "model")}
    out = measure_assistant(
        config(docs), tmp_path / "index", models, tmp_path / "answers", tmp_path / "work", max_new_tokens=3
    )
    assert open_artifact(out).lineage["result"]["answers"] == {}
    assert "answers: not measured" in capsys.readouterr().err
