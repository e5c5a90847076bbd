"""Training data out of an index: pairs for the encoder, scored pairs for a reranker, conversations for the model.

Questions are made by rules about the passages that are not held out (see `questions`). What is hard is found by the index
itself: passages that rank high for a question and lack its answer (Karpukhin et al. 2020, section 3.2). A conversation has
the form of `parakit ask`: the passages that the search finds, the right one among them. For some it is missing, or has lost
the sentences with the answer, or the question is one that its document does not answer, and then the answer is the refusal.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from parakit.assistants.retrieval.config import SearchConfig
from parakit.assistants.retrieval.prompting import REFUSAL, request
from parakit.assistants.retrieval.questions import is_held_out, made_pairs
from parakit.assistants.retrieval.search import DocumentIndex
from parakit.assistants.retrieval.store import StoredPassage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import Bar
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.conversations.from_documents import Pair
from parakit.data.conversations.from_documents.checks import content_words, found_words
from parakit.data.conversations.sets import prepare_conversations
from parakit.data.examples.sets import prepare_examples
from parakit.data.sources import GeneratedSource
from parakit.stages.documents.common_questions import common_question

LACKS = 0.5  # of an answer's content words: with fewer a passage lacks the answer
N_SEARCHED = 20
OWN_DOCUMENT = (
    0.7  # of the refusals are about a document that is there and does not say: the threshold finds no others
)
COMMON = 0.22  # of the refusals have a question of another subject about the document; with more its style means refusal
MIN_SILENT = 60  # characters
_SENTENCE = re.compile(r".*?(?:[.!?]\s+|\n+|$)", re.DOTALL)


@dataclass(frozen=True)
class TrainingDataConfig:
    """`wordings`: questions about each fact at most; `n_negatives`: hard ones of each question; `refusal_share`: of the
    conversations; `n_passages`: of each conversation, None: as many as an answer from the index has; `max_questions`: drawn
    over all passages.
    """

    wordings: int = 2
    n_negatives: int = 3
    refusal_share: float = 0.3
    n_passages: int | None = None
    max_questions: int = 10_000


def encoder_pairs(index: DocumentIndex, config: TrainingDataConfig) -> Iterator[JsonObject]:
    """Rows of `--task embed`: a question, the passage that answers it as the index searches it, and hard ones that do not."""
    for passage, pair in _pairs(index, config):
        row: JsonObject = {"text": pair.question, "positive": _searched(passage)}
        searched = map(_searched, _hard(index, passage, pair, config.n_negatives))
        if negatives := [text for text in dict.fromkeys(searched) if text != row["positive"]]:
            row["negatives"] = negatives
        yield row


def reranker_pairs(index: DocumentIndex, config: TrainingDataConfig) -> Iterator[JsonObject]:
    """Rows of `--task regress`: a question with a passage, 1 for the one that answers it, 0 for hard ones that do not."""
    for passage, pair in _pairs(index, config):
        yield {"text": pair.question, "text_pair": _searched(passage), "score": 1.0}
        for other in _hard(index, passage, pair, config.n_negatives):
            yield {"text": pair.question, "text_pair": _searched(other), "score": 0.0}


def cited_conversations(index: DocumentIndex, config: TrainingDataConfig) -> Iterator[Conversation]:
    """The question with the passages that the search finds and the answer with its citation, or the refusal."""
    n_passages = config.n_passages or index.n_passages
    for passage, pair in _pairs(index, config):
        others = _hard(index, passage, pair, n_passages)
        if not others:
            continue
        shown: StoredPassage | None = passage
        question = pair.question
        is_refusal = _part(pair.question, "refusal") < config.refusal_share
        if is_refusal:
            kind = _part(pair.question, "silent")
            shown = _without_answer(passage, pair) if kind < OWN_DOCUMENT else None
            if kind < COMMON and (other := _common(passage, others, pair)):
                question, shown = other, passage
        place = int(_part(pair.question, "place") * min(n_passages, len(others) + 1))
        passages = [*others[:place], *([shown] if shown else []), *others[place:]][:n_passages]
        answer = REFUSAL if is_refusal else f"{_sentence(pair.answer)} [{place + 1}]"
        yield _conversation(question, passages, answer)


def write_training_data(
    kind: str,
    index: DocumentIndex,
    out: str | Path,
    config: TrainingDataConfig,
    *,
    overwrite: bool = False,
    bar: Bar | None = None,
    validation_fraction: float = 0.05,
) -> Path:
    """Write pairs (`embed`), scored pairs (`regress`) or `conversations` as the set that `parakit finetune` reads."""
    settings: JsonObject = vars(config) | {"n_passages": config.n_passages or index.n_passages}
    parents = (index.path,)
    if not list(made_pairs(_training_passages(index)))[:1]:
        raise UserError(
            f"{index.path}: the rules find no question about its passages",
            "they know English sentences, fields and tables; see parakit text --questions-from for a model that writes them",
        )
    if kind == "conversations":
        conversations = GeneratedSource(
            "from_index", settings, 0, lambda: cited_conversations(index, config), parents=parents
        )
        return prepare_conversations(
            conversations, out, validation_fraction=validation_fraction, overwrite=overwrite, progress=bar
        )
    make = encoder_pairs if kind == "embed" else reranker_pairs
    rows = GeneratedSource("from_index", settings, 0, lambda: make(index, config), parents=parents)
    return prepare_examples(rows, kind, out, overwrite=overwrite, progress=bar)


def _training_passages(index: DocumentIndex) -> list[StoredPassage]:
    return [one for one in index.passages() if not is_held_out(one)]


def _pairs(index: DocumentIndex, config: TrainingDataConfig) -> Iterator[tuple[StoredPassage, Pair]]:
    """The questions about the passages that are not held out, in their order; which ones is drawn from digests."""
    made = list(made_pairs(_training_passages(index), config.wordings))
    drawn = nsmallest(
        config.max_questions, range(len(made)), key=lambda i: _part(made[i][1].question, "drawn")
    )
    for i in sorted(drawn):
        yield made[i]


def _hard(index: DocumentIndex, passage: StoredPassage, pair: Pair, n: int) -> list[StoredPassage]:
    """The passages that rank highest for a question and lack its answer."""
    wanted = content_words(pair.answer)
    hits = index.search(pair.question, SearchConfig(n_passages=N_SEARCHED)).hits
    lacking = (
        hit.passage
        for hit in hits
        if hit.passage.id != passage.id and len(found_words(wanted, hit.passage.text)) < LACKS * len(wanted)
    )
    return [one for one, _ in zip(lacking, range(n), strict=False)]


def _without_answer(passage: StoredPassage, pair: Pair) -> StoredPassage | None:
    """The passage without the sentences that have the answer, as a document that is about the question and does not say;
    None where too little is left.
    """
    wanted = content_words(pair.answer)
    pieces = _SENTENCE.findall(passage.text)
    kept = [one for one in pieces if len(found_words(wanted, one)) < LACKS * len(wanted)]
    text = "".join(kept).strip()
    return dataclasses.replace(passage, text=text) if len(text) >= MIN_SILENT else None


def _common(passage: StoredPassage, others: list[StoredPassage], pair: Pair) -> str | None:
    """A common question about the passage's document that none of the passages answers."""
    if not passage.title:
        return None
    texts = [one.text for one in (passage, *others)]
    return common_question(passage.title, texts, _part(pair.question, "common"))


def _conversation(question: str, passages: list[StoredPassage], answer: str) -> Conversation:
    return Conversation((request(question, passages), Message("assistant", answer)))


def _sentence(answer: str) -> str:
    text = answer[:1].upper() + answer[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _searched(passage: StoredPassage) -> str:
    return f"{passage.heading}\n{passage.text}" if passage.heading else passage.text


def _part(text: str, purpose: str) -> float:
    """A number in [0, 1) that is a function of the text."""
    digest = hashlib.sha256(f"{purpose}\n{text}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
