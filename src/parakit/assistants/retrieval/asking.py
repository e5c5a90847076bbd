"""Answers from an index: search, threshold, the passages that fit, the model, checked citations.

`prepare` does all that is before the model, so a chat or a server can stream what follows; `finish` checks what the model
wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from parakit.assistants.retrieval.citations import CitedAnswer, cite
from parakit.assistants.retrieval.config import AskConfig
from parakit.assistants.retrieval.followups import standalone_query
from parakit.assistants.retrieval.prompting import (
    REFUSAL,
    CountTokens,
    FittedContext,
    fit_context,
    is_refusal,
    recent_turns,
)
from parakit.assistants.retrieval.search import DocumentIndex, Hit
from parakit.assistants.retrieval.threshold import Threshold
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.chat_model import estimated_tokens

if TYPE_CHECKING:
    from parakit.inference.chat_models.chat_model import ChatModel

ENDPOINT_WINDOW = 4096
Refused = Literal["threshold", "nothing found", "model"]


@dataclass(frozen=True)
class PreparedQuestion:
    """A question before the model has it. `refused`: why the model is not called, if it is not; `context` is then None."""

    question: str
    query: str
    signals: dict[str, float]
    refused: Refused | None = None
    score: float | None = None
    threshold: float | None = None
    context: FittedContext | None = None
    hits: tuple[Hit, ...] = ()
    n_dropped: int = 0
    """Messages of the conversation, its oldest, that the budget could not hold with passages."""

    def to_json(self) -> JsonObject:
        """Plain values: what is known before the model answers."""
        context = self.context
        return {
            "question": self.question,
            "query": self.query,
            "passages": [hit.to_json() for hit in (context.used if context else self.hits)],
            "omitted": [hit.to_json() for hit in (context.omitted if context else ())],
            "context": {"n_tokens": context.n_tokens, "budget": context.budget} if context else None,
            "dropped_messages": self.n_dropped,
            "signals": self.signals,
            "score": self.score,
            "threshold": self.threshold,
        }


@dataclass(frozen=True)
class DocumentAnswer:
    """An answer, its checked citations, and what went in. `refused`: what decided that the documents do not say."""

    text: str
    prepared: PreparedQuestion
    refused: Refused | None
    cited: CitedAnswer = field(default_factory=lambda: CitedAnswer("", (), (), 0))

    def to_json(self) -> JsonObject:
        """Plain values."""
        return {
            "answer": self.text,
            "refused": self.refused,
            "citations": [one.to_json() for one in self.cited.citations],
            "unsupported": list(self.cited.unsupported),
            "wrong_marks": self.cited.n_wrong_marks,
            **self.prepared.to_json(),
        }


@dataclass
class DocumentAssistant:
    """A model with an index."""

    index: DocumentIndex
    model: ChatModel
    config: AskConfig = field(default_factory=AskConfig)

    def __post_init__(self) -> None:
        if "n_passages" not in self.config.model_fields_set:
            self.config = self.config.replace(n_passages=self.index.n_passages)

    def ask_many(
        self, questions: Sequence[str], without: Sequence[Collection[str]] | None = None
    ) -> list[DocumentAnswer]:
        """Answers to questions that do not follow each other, the model's in batches. `without`: for each question the
        sources that are left out of its search.
        """
        hidden = without or [()] * len(questions)
        prepared = [
            self.prepare(question, without=sources)
            for question, sources in zip(questions, hidden, strict=True)
        ]
        contexts = [one.context.messages for one in prepared if one.context]
        written = iter(self._generate(contexts))
        return [self.finish(one, next(written) if one.context else "") for one in prepared]

    def answer(self, question: str, history: Sequence[Message] = ()) -> DocumentAnswer:
        """The answer to a question after earlier turns; see `prepare` for the errors."""
        prepared = self.prepare(question, history)
        written = self._generate([prepared.context.messages])[0] if prepared.context else ""
        return self.finish(prepared, written)

    def prepare(
        self, question: str, history: Sequence[Message] = (), *, without: Collection[str] = ()
    ) -> PreparedQuestion:
        """Search, and choose what the model gets. `without`: sources whose passages do not count. `UserError` for an empty
        question, and for one that the context window cannot hold.
        """
        query = standalone_query(question, history, self.config.rewrite, self.model)
        found = self.index.search(query, self.config, without=without)
        hits, threshold = tuple(found.hits), self._threshold()
        score = threshold.score(found.signals) if threshold else None
        value = threshold.value if threshold and score is not None else None
        known = (question, query, found.signals)
        if not hits:
            return PreparedQuestion(*known, "nothing found", score, value)
        if threshold and threshold.refuses(found.signals):
            return PreparedQuestion(*known, "threshold", score, value, hits=hits)
        count, window = token_counter(self.model)
        budget = self.config.context_tokens or window - self.config.max_new_tokens
        if budget < 1:
            raise UserError(
                f"max_new_tokens = {self.config.max_new_tokens} leaves nothing of the context window of {window} tokens",
                "lower --max-new-tokens",
            )
        budget = min(budget, window - 1)
        recent = recent_turns(history, count, budget // 2)
        context = fit_context(question, hits, recent, count, budget)
        n_dropped = len(history) - len(recent)
        return PreparedQuestion(*known, None, score, value, context, hits, n_dropped)

    def finish(self, prepared: PreparedQuestion, written: str) -> DocumentAnswer:
        """The answer with what the model wrote, its citations checked."""
        if prepared.refused or prepared.context is None:
            return DocumentAnswer(REFUSAL, prepared, prepared.refused)
        if is_refusal(written):
            return DocumentAnswer(REFUSAL, prepared, "model")
        cited = cite(written, [hit.passage for hit in prepared.context.used])
        return DocumentAnswer(cited.text, prepared, None, cited)

    def _threshold(self) -> Threshold | None:
        fitted = Threshold.from_json(self.index.threshold) if self.index.threshold else None
        if self.config.threshold is None:
            return fitted
        if self.config.threshold == 0:
            return None
        weights = fitted.weights if fitted else {"vectors" if self.index.has_vectors else "words": 1.0}
        return Threshold(weights, self.config.threshold, {})

    def _generate(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        if not conversations:
            return []
        written = self.model.generate(
            conversations,
            max_new_tokens=self.config.max_new_tokens,
            temperature=self.config.temperature,
            seeds=list(range(len(conversations))),
        )
        return [one or "" for one in written]


def token_counter(model: ChatModel) -> tuple[CountTokens, int]:
    """How the tokens of a conversation are counted, and the context window. Those of an endpoint are estimated."""
    from parakit.inference.chat_models.local import LocalChatModel

    if not isinstance(model, LocalChatModel):
        return estimated_tokens, ENDPOINT_WINDOW
    from parakit.inference.generation.completion import prompt_ids

    tokenizer = model.tokenizer
    return lambda messages: len(prompt_ids(tokenizer, messages)), model.model.config.max_seq_len
