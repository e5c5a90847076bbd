"""The benchmark of answers from documents: its facts are in its documents, and its unanswerable questions are in none."""

from __future__ import annotations

from benchmarks.quality.documents import document_answers
from parakit.assistants.retrieval.config import IndexConfig
from parakit.assistants.retrieval.indexing import index_documents
from parakit.assistants.retrieval.search import DocumentIndex


def test_questions_are_answered_by_their_documents_or_by_none(tmp_path):
    places = document_answers._places(0)
    docs = tmp_path / "docs"
    docs.mkdir()
    for place in places:
        (docs / f"{place.name}.md").write_text(place.text(), encoding="utf-8")
    assert len({place.name for place in places}) == 200
    index_documents(IndexConfig(paths=(str(docs),), encoder="none"), tmp_path / "index")
    index = DocumentIndex(tmp_path / "index")
    questions = document_answers._questions(index, places, 100, 0)
    stated = [one for one in questions if one.relevant]
    assert len(questions) == 200
    assert len(stated) == 100
    for one in stated:
        assert one.passage is not None
        assert one.answers[0] in one.passage.text
        assert index.search(one.question).hits[0].passage.source in one.relevant
    texts = [passage.text for passage in index.passages()]
    named = [one.question for one in questions if not one.relevant and "wick" in one.question]
    assert len(named) == 50
    assert not any(
        word.strip("?") in text for one in named for word in one.split() if "wick" in word for text in texts
    )
