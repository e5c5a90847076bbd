"""Answers from an index: checked citations, refusals, the budget of the context, follow-up questions."""

from __future__ import annotations

import numpy as np
import pytest

from parakit.assistants.retrieval.asking import DocumentAssistant
from parakit.assistants.retrieval.citations import cite
from parakit.assistants.retrieval.config import AskConfig, IndexConfig
from parakit.assistants.retrieval.followups import needs_context, standalone_query
from parakit.assistants.retrieval.indexing import index_documents
from parakit.assistants.retrieval.prompting import REFUSAL, fit_context, is_refusal, request
from parakit.assistants.retrieval.search import DocumentIndex, Hit
from parakit.assistants.retrieval.store import StoredPassage
from parakit.assistants.retrieval.threshold import Threshold, fit_threshold
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.chat_model import estimated_tokens


class Scripted:
    """A chat model that writes what it is given."""

    name = "scripted"

    def __init__(self, *answers: str) -> None:
        self.answers, self.requests = list(answers), []

    def generate(self, conversations, *, max_new_tokens, temperature=0.0, seeds=None, on_progress=None):
        self.requests += [tuple(one) for one in conversations]
        return [self.answers.pop(0) for _ in conversations]


def passage(number: int, text: str, heading: str = "") -> StoredPassage:
    return StoredPassage(number, f"docs/{number}.md", "", heading, 0, len(text), text)


@pytest.fixture
def index(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "port.md").write_text("# Port\n\nThe server listens on port 8080. It was built in 1999.\n")
    (docs / "tea.md").write_text("# Tea\n\nGreen tea is brewed at eighty degrees.\n")
    index_documents(IndexConfig(paths=(str(docs),), encoder="none"), tmp_path / "index")
    return DocumentIndex(tmp_path / "index")


def test_every_citation_is_a_stretch_of_its_passage():
    passages = [
        passage(1, "Tea is hot. Green tea is brewed at eighty degrees."),
        passage(2, "The port is 8080."),
    ]
    cited = cite("Green tea is brewed at eighty degrees [1]. The port is 8080.", passages)
    assert cited.text == "Green tea is brewed at eighty degrees. [1] The port is 8080. [2]"
    assert [(one.number, one.quote) for one in cited.citations] == [
        (1, "Green tea is brewed at eighty degrees."),
        (2, "The port is 8080."),
    ]
    assert all(one.quote == one.passage.text[one.begin : one.end] for one in cited.citations)
    assert cited.unsupported == ()
    assert cited.n_wrong_marks == 0


@pytest.mark.parametrize("mark", ["[2]", "[7]", "[0]"])
def test_a_mark_that_its_passage_does_not_support_is_replaced(mark):
    passages = [passage(1, "Green tea is brewed at eighty degrees."), passage(2, "The port is 8080.")]
    cited = cite(f"Green tea is brewed at eighty degrees. {mark}", passages)
    assert cited.text.endswith("degrees. [1]")
    assert cited.n_wrong_marks == 1


def test_a_sentence_with_another_number_is_unsupported():
    cited = cite("The port is 9090. [1]", [passage(1, "The port is 8080.")])
    assert cited.citations == ()
    assert cited.unsupported == ("The port is 9090.",)
    assert cited.text == "The port is 9090."


def test_an_answer_has_what_went_in_and_what_it_cites(index):
    model = Scripted("The server listens on port 8080 [1].")
    answer = DocumentAssistant(index, model).answer("Which port does the server listen on?")
    assert answer.text == "The server listens on port 8080. [1]"
    (citation,) = answer.to_json()["citations"]
    assert citation["source"] == "docs/port.md"
    assert citation["quote"] == "The server listens on port 8080."
    assert "[1] docs/port.md, Port\n" in model.requests[0][-1].content
    assert answer.to_json()["context"]["n_tokens"] <= answer.to_json()["context"]["budget"]


def test_a_question_that_finds_nothing_is_refused_without_the_model(index):
    answer = DocumentAssistant(index, Scripted()).answer("zebra?")
    assert (answer.text, answer.refused) == (REFUSAL, "nothing found")


def test_a_question_below_the_threshold_is_refused_without_the_model(index):
    assistant = DocumentAssistant(index, Scripted("The port is 8080."), AskConfig(threshold=0.9))
    answer = assistant.answer("Which zebra listens to a server of the emperor?")
    assert (answer.text, answer.refused) == (REFUSAL, "threshold")
    assert assistant.answer("Which port was built?").refused is None or answer.prepared.score < 0.9


def test_a_refusal_of_the_model_is_recognized(index):
    answer = DocumentAssistant(index, Scripted("the documents do not say")).answer("Which port?")
    assert (answer.text, answer.refused) == (REFUSAL, "model")
    assert not is_refusal("The documents do name it.")


def test_passages_that_do_not_fit_are_left_out_whole_and_named():
    long, short = passage(1, "word " * 300), passage(2, "The port is 8080.")
    hits = [Hit(long, 0.9), Hit(short, 0.5)]
    bare = estimated_tokens([request("Which port?", ())])
    context = fit_context("Which port?", hits, (), estimated_tokens, bare + 40)
    assert [hit.passage.id for hit in context.used] == [2]
    assert [hit.passage.id for hit in context.omitted] == [1]
    assert context.n_tokens == estimated_tokens(context.messages) <= context.budget
    with pytest.raises(UserError, match="no passage fits: the shortest needs"):
        fit_context("Which port?", hits, (), estimated_tokens, bare + 5)
    with pytest.raises(UserError, match=r"the question has .* tokens"):
        fit_context("word " * 5000, hits, (), estimated_tokens, 500)


def test_the_budget_counts_the_models_own_tokens(index, published_wide):
    from parakit.inference.chat_models.local import LocalChatModel
    from parakit.inference.generation.completion import prompt_ids

    model = LocalChatModel.load(published_wide)
    answer = DocumentAssistant(index, model, AskConfig(max_new_tokens=4)).answer("Which port?")
    context = answer.prepared.context
    assert context.n_tokens == len(prompt_ids(model.tokenizer, context.messages))
    assert context.budget == model.model.config.max_seq_len - 4


HISTORY = [
    Message("user", "Which port does the Falcon server listen on?"),
    Message("assistant", "On port 8080."),
]


def test_a_follow_up_gets_the_words_of_the_question_before_it():
    query = standalone_query("When was it built?", HISTORY)
    assert query == "When was it built? port Falcon server listen"
    assert standalone_query("When was it built?", []) == "When was it built?"
    assert standalone_query("When was it built?", HISTORY, "none") == "When was it built?"
    assert not needs_context("Which degrees does green tea need?")
    assert needs_context("And tea?")


def test_a_model_rewrites_a_follow_up_and_is_checked():
    rewritten = Scripted("When was the Falcon server built?")
    assert (
        standalone_query("When was it built?", HISTORY, "model", rewritten)
        == "When was the Falcon server built?"
    )
    assert "Falcon" in rewritten.requests[0][0].content
    for bad in ("", "I do not know\nwhat to write", "Bananas are yellow."):
        assert standalone_query("When was it built?", HISTORY, "model", Scripted(bad)).endswith("listen")


def test_a_follow_up_is_searched_with_its_conversation(index):
    assistant = DocumentAssistant(index, Scripted("It was built in 1999."))
    history = [Message("user", "Which port does the server listen on?"), Message("assistant", "8080.")]
    answer = assistant.answer("When was it built?", history)
    assert answer.prepared.query.startswith("When was it built? ")
    assert answer.cited.citations[0].quote == "It was built in 1999."
    assert assistant.model.requests[0][:2] == tuple(history)


def test_the_threshold_refuses_most_without_an_answer_and_few_with_one():
    with_answer = [{"words": 0.5 + i / 100, "vectors": 0.2} for i in range(40)]
    without = [{"words": 0.1 + i / 100, "vectors": 0.2} for i in range(40)]
    fitted = fit_threshold(with_answer, without)
    assert fitted.weights == {"words": 1.0}
    assert sum(map(fitted.refuses, with_answer)) <= 4
    assert sum(map(fitted.refuses, without)) == 40
    assert fitted.figures["refused_unanswerable"] == 1.0
    assert fitted.figures["held_out_refused_answerable"] <= 0.2
    assert Threshold.from_json(fitted.to_json()) == fitted
    assert not fitted.refuses({"vectors": 0.0})
    with pytest.raises(UserError, match="needs 10 questions of each kind"):
        fit_threshold(with_answer[:3], without)


def test_the_threshold_is_in_the_widest_gap_and_refuses_nobody_without_need():
    with_answer = [{"words": 0.5 + i / 100} for i in range(40)]
    without = [{"words": i / 100} for i in range(40)]
    fitted = fit_threshold(with_answer, without)
    assert fitted.value == pytest.approx(0.445)
    assert fitted.figures["refused_answerable"] == fitted.figures["held_out_refused_answerable"] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all_that_refuse_few_enough(seed):
    generator = np.random.default_rng(seed)
    with_answer, without = (generator.normal(mean, 1, 60).round(1).tolist() for mean in (1.0, 0.0))
    fitted = fit_threshold([{"vectors": one} for one in with_answer], [{"vectors": one} for one in without])

    def shares(value: float) -> tuple[float, float]:
        return tuple(sum(one < value for one in side) / 60 for side in (with_answer, without))

    allowed = [pair for pair in map(shares, np.arange(-4, 4, 0.05)) if pair[0] <= 0.1]
    refused = shares(fitted.value)
    assert refused[0] <= 0.1
    assert refused[1] - refused[0] == pytest.approx(max(pair[1] - pair[0] for pair in allowed))


def test_an_answer_has_as_many_passages_as_the_index_says(tmp_path):
    docs = tmp_path / "teas"
    docs.mkdir()
    for i in range(6):
        (docs / f"{i}.md").write_text(f"# Tea {i}\n\nGreen tea {i} is brewed at eighty degrees.\n")
    index_documents(IndexConfig(paths=(str(docs),), encoder="none", n_passages=2), tmp_path / "index")
    index = DocumentIndex(tmp_path / "index")
    assert len(DocumentAssistant(index, Scripted()).prepare("Is green tea hot?").hits) == 2
    more = DocumentAssistant(index, Scripted(), AskConfig(n_passages=4))
    assert len(more.prepare("Is green tea hot?").hits) == 4
    assert not index_documents(IndexConfig(), tmp_path / "index")["rebuilt"]


def test_the_documents_of_a_question_can_be_left_out(index):
    assistant = DocumentAssistant(index, Scripted())
    (answer,) = assistant.ask_many(["Which port is it?"], without=[{"docs/port.md"}])
    assert answer.refused == "nothing found"
