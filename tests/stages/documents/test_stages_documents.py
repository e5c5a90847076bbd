"""Measuring an index and the answers from it, and training data out of it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from parakit.assistants.retrieval.asking import DocumentAssistant
from parakit.assistants.retrieval.config import IndexConfig
from parakit.assistants.retrieval.indexing import index_documents, store_threshold
from parakit.assistants.retrieval.measures import ndcg, recall, reciprocal_rank
from parakit.assistants.retrieval.prompting import REFUSAL
from parakit.assistants.retrieval.questions import is_held_out, made_questions, read_questions
from parakit.assistants.retrieval.search import DocumentIndex
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.data.conversations.sets import iter_conversations
from parakit.data.examples.sets import iter_examples
from parakit.stages.documents.measuring import (
    has_answer,
    measure_answers,
    measure_retrieval,
    measure_threshold,
)
from parakit.stages.documents.training_data import (
    TrainingDataConfig,
    cited_conversations,
    write_training_data,
)

TOWNS = ("Arlen", "Borvik", "Cassel", "Dunmore", "Elstow", "Farrow", "Gorhey", "Hexby", "Ilmar", "Jorvik")
N = 40


class Echo:
    """A chat model that answers from the first passage that has the question's town, and knows nothing else."""

    name = "echo"

    def generate(self, conversations, *, max_new_tokens, temperature=0.0, seeds=None, on_progress=None):
        return [self._answer(one[-1].content) for one in conversations]

    def _answer(self, request: str) -> str:
        passages, _, question = request.rpartition("Question: ")
        towns = set(re.findall(r"\w+", question)) & set(names())
        for line in passages.splitlines():
            if line[:1] not in ("[", "#") and towns & set(re.findall(r"\w+", line)):
                return line
        return "I do not know."


def names() -> list[str]:
    return [f"{TOWNS[i % 10]}ton{i}" for i in range(N)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DocumentIndex:
    folder = tmp_path_factory.mktemp("documents")
    docs = folder / "docs"
    docs.mkdir()
    for i, town in enumerate(names()):
        text = f"# {town}\n\nThe town of {town} was founded in {1300 + i}. The mayor of {town} has {20 + i} bridges to keep.\n"
        (docs / f"{town}.md").write_text(text, encoding="utf-8")
    index_documents(IndexConfig(paths=(str(docs),), encoder="none"), folder / "index")
    return DocumentIndex(folder / "index")


def test_ndcg_is_that_of_scikit_learn():
    from sklearn.metrics import ndcg_score

    generator = np.random.default_rng(0)
    for _ in range(20):
        grades = generator.integers(0, 4, 12).astype(float)
        grades[0] += 1
        ranking = [str(i) for i in range(12)]
        relevant = {str(i): grade for i, grade in enumerate(grades) if grade}
        expected = ndcg_score([grades], [np.arange(12, 0, -1)], k=10)
        assert ndcg(ranking, relevant, 10) == pytest.approx(expected)


def test_recall_and_reciprocal_rank_count_documents():
    ranking, relevant = ["a", "b", "c", "d"], {"b": 1.0, "d": 1.0, "x": 1.0}
    assert recall(ranking, relevant, 2) == pytest.approx(1 / 3)
    assert recall(ranking, relevant, 10) == pytest.approx(2 / 3)
    assert reciprocal_rank(ranking, relevant) == 0.5
    assert reciprocal_rank(["a"], relevant) == 0.0


def test_made_questions_are_about_passages_that_are_held_out(index):
    questions = made_questions(index.passages(), 100)
    assert questions
    assert all(is_held_out(one.passage) and one.relevant for one in questions)
    assert all(one.answers[0] in one.passage.text for one in questions)


def test_the_search_is_measured_on_questions(index):
    results = measure_retrieval(index, made_questions(index.passages(), 100))
    figures = results["searches"]["words"]
    assert results["compared_with"] == "words"
    assert figures["recall@5"]["value"] == 1.0
    assert figures["ndcg@10"]["low"] <= figures["ndcg@10"]["value"] <= figures["ndcg@10"]["high"] <= 1.0


def test_answers_are_measured_with_and_without_the_documents(index):
    questions = made_questions(index.passages(), 100)
    results = measure_answers(DocumentAssistant(index, Echo()), questions)
    assert results["closed_book"]["value"] == 0.0
    assert results["open_book"]["value"] == results["with_the_passage"]["value"] == 1.0
    assert results["lost_in_retrieval"] == results["lost_in_reading"] == 0
    assert results["citations_in_their_passage"] == results["n_citations"] > 0
    assert results["refused_unanswerable"]["n"] == len(questions)  # each once more without its documents


def test_an_answer_is_right_where_it_has_the_words_in_order():
    assert has_answer("It was founded in the year 1,300.", ["1300"])
    assert has_answer("By Ada Lovelace, in 1843.", ["Ada Lovelace"])
    assert not has_answer("By Lovelace, Ada", ["Ada Lovelace"])
    assert not has_answer("13001", ["1300"])


def test_a_threshold_refuses_questions_without_their_documents(index):
    questions = made_questions(index.passages(), 100)
    fitted = measure_threshold(index, questions)
    assert fitted.figures["refused_answerable"] <= 0.1
    assert fitted.figures["refused_unanswerable"] >= 0.8
    content = index.lineage["result"]["content"]
    store_threshold(index.path, fitted.to_json())
    assert (
        open_artifact(index.path, "index").lineage["result"]["content"] == content
    )  # and the manifest holds
    assistant = DocumentAssistant(index, Echo())
    assert assistant.answer("When was Zanzibarton founded?").refused == "threshold"
    assert assistant.answer(questions[0].question).refused is None
    assert not index_documents(IndexConfig(), index.path)["rebuilt"]
    assert index.threshold == fitted.to_json()
    store_threshold(index.path, None)


def test_questions_of_a_file_name_the_files_by_their_ends(index, tmp_path):
    rows = [
        {"question": "When?", "relevant": [f"{names()[0]}.md"], "answers": "1300", "id": 7},
        {"question": "Where?", "relevant": {f"docs/{names()[1]}.md": 2, "none.md": 1}},
        {"question": "Who is king?", "relevant": []},
        {"question": "Lost?", "relevant": ["lost.md"]},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sources = [one.source for one in index.passages()]
    found = read_questions(path, sources)
    assert [(one.id, dict(one.relevant), one.answers) for one in found] == [
        ("7", {f"docs/{names()[0]}.md": 1.0}, ("1300",)),
        ("2", {f"docs/{names()[1]}.md": 2.0}, ()),
        ("3", {}, ()),
    ]
    for row in ({"question": "", "relevant": []}, {"question": "a", "relevant": "x"}, {"question": "a"}):
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        with pytest.raises(UserError, match="row 1"):
            read_questions(path, sources)


def test_training_data_leaves_out_what_is_measured(index, tmp_path):
    config = TrainingDataConfig()
    measured = {one.passage.text for one in made_questions(index.passages(), 1_000)}
    write_training_data("embed", index, tmp_path / "pairs", config)
    rows = [row for split in ("train", "validation") for row in iter_examples(tmp_path / "pairs", split)]
    assert len(rows) > 40
    assert not any(text in row["positive"] for row in rows for text in measured)
    assert sum("negatives" in row for row in rows) > len(rows) / 2
    assert all(row["positive"] not in row.get("negatives", ()) for row in rows)
    assert max(len(row.get("negatives", ())) for row in rows) == config.n_negatives


def test_hard_negatives_rank_high_and_lack_the_answer(index, tmp_path):
    write_training_data("regress", index, tmp_path / "scored", TrainingDataConfig(n_negatives=2))
    rows = [row for split in ("train", "validation") for row in iter_examples(tmp_path / "scored", split)]
    assert {row["score"] for row in rows} == {0.0, 1.0}
    assert sum(row["score"] == 0 for row in rows) > sum(row["score"] == 1 for row in rows)


def test_conversations_have_the_form_of_a_question_to_the_documents(index, tmp_path):
    write_training_data("conversations", index, tmp_path / "cited", TrainingDataConfig(refusal_share=0.5))
    found = [
        one for split in ("train", "validation") for one in iter_conversations(tmp_path / "cited", split)
    ]
    refusals = [one for one in found if one.messages[-1].content == REFUSAL]
    assert 0 < len(refusals) < len(found)
    silent = [
        one for one in refusals if any(len(part) > 60 for part in one.messages[0].content.split("\n\n")[1:-1])
    ]
    assert silent
    for one in found:
        request, answer = (message.content for message in one.messages)
        if answer == REFUSAL:
            continue
        text, _, mark = answer.rpartition(" [")
        passage = request.partition(f"\n\n[{mark.rstrip(']')}] ")[2].partition("\n\n")[0]
        assert text.rstrip(".").lower() in request.lower()
        assert passage


def test_the_document_that_does_not_say_is_shown_where_one_passage_is(index):
    config = TrainingDataConfig(refusal_share=0.9, n_passages=1)
    refused = [
        one.messages[0].content
        for one in cited_conversations(index, config)
        if one.messages[-1].content == REFUSAL
    ]
    about_it = [text for text in refused if any(text.count(name) > 2 for name in names())]
    assert len(about_it) > len(refused) / 6
