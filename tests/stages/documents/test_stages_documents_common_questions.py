"""Questions that a document does not answer are among the refusals of training data."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from parakit.assistants.retrieval.config import IndexConfig
from parakit.assistants.retrieval.indexing import index_documents
from parakit.assistants.retrieval.prompting import REFUSAL
from parakit.assistants.retrieval.search import DocumentIndex
from parakit.data.conversations.from_documents.checks import content_words
from parakit.stages.documents.common_questions import common_question
from parakit.stages.documents.training_data import TrainingDataConfig, cited_conversations

WORDS = ["town", "costs", "owner", "telephones", "weather,", "songs", "the", "mayor"]


@given(st.lists(st.sampled_from(WORDS), max_size=12), st.floats(0, 1, exclude_max=True))
def test_no_text_has_a_word_that_begins_like_one_of_the_question(words, part):
    question = common_question("Arlen", [" ".join(words)], part)
    assert question is not None
    starts = {re.sub(r"\W", "", word)[:4] for word in words}
    assert not any(word[:4] in starts for word in content_words(question) - {"arlen"})


def test_nothing_is_put_to_a_text_that_has_words_of_every_question():
    text = (
        "people live cost owner telephone number belong weather language spoken mayor colour take airport nearest competitors"
        " award won visitor year critic write capital song insure teacher newspaper report weigh child like best famous"
        " painter open morning hospital time long come each"
    )
    assert common_question("Arlen", [text], 0.5) is None


def test_refusals_have_questions_of_other_subjects_about_the_document_that_is_shown(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    names = [f"Arlen{i}" for i in range(30)]
    for i, name in enumerate(names):
        text = (
            f"# {name}\n\nThe town of {name} was founded in {1300 + i}. There are {20 + i} bridges in it.\n"
        )
        (docs / f"{name}.md").write_text(text, encoding="utf-8")
    index_documents(IndexConfig(paths=(str(docs),), encoder="none"), tmp_path / "index")
    index = DocumentIndex(tmp_path / "index")
    config = TrainingDataConfig(refusal_share=1.0, n_passages=1)
    other = 0
    for one in cited_conversations(index, config):
        assert one.messages[-1].content == REFUSAL
        passages, _, question = one.messages[0].content.rpartition("Question: ")
        if "founded" in question or "bridges" in question:
            continue
        (name,) = set(re.findall(r"\w+", question)) & set(names)
        assert f"founded in {1300 + names.index(name)}" in passages
        other += 1
    assert other > 3
