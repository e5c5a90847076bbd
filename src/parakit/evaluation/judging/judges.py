"""Judges: what chooses the better of two answers, or grades one.

A chat model is given a prompt and scores the replies that it may give: a local one by their probabilities, an endpoint by
the reply that it writes. A reward model scores each answer; the probability that one is better is the logistic function
of the difference (Bradley-Terry), which no order of the answers can change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from parakit.common.errors import UserError
from parakit.data.conversations.messages import Message
from parakit.data.preferences.rankings import Ranking
from parakit.evaluation.judging.inputs import Question
from parakit.evaluation.judging.prompts import CHOICES, GRADES, comparison_prompt, grading_prompt
from parakit.evaluation.preferences import score_rankings
from parakit.evaluation.results import digest
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.model.heads import RewardModel
from parakit.tokens.preferences.encoding import completion_ids, encode_rankings
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Scores = tuple[float, ...]


@dataclass(frozen=True)
class OrderedAnswers:
    """Two answers to a question, in the order in which the judge sees them."""

    question: Question
    first: str
    second: str


@dataclass(frozen=True)
class GradedAnswer:
    """An answer to grade."""

    question: Question
    text: str

    @property
    def content_id(self) -> str:
        """Of all that the judge reads."""
        return digest([self.question.text, self.question.reference or "", self.text])


class Judge(Protocol):
    """Compares and grades; None where there is no verdict: a reply that is none, or a prompt longer than the window."""

    @property
    def name(self) -> str:
        """Appears in results."""
        ...

    def compare(self, pairs: Sequence[OrderedAnswers]) -> list[Scores | None]:
        """The probabilities that the first answer is better, that the second is, and that they are equal."""
        ...

    def grade(self, answers: Sequence[GradedAnswer]) -> list[Scores | None]:
        """The probabilities of the grades 1 to 5."""
        ...


@dataclass(frozen=True)
class ChatJudge:
    """A local chat model or an endpoint. `criterion` completes "Which answer is more ...?"."""

    model: ChatModel
    criterion: str

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name

    def compare(self, pairs: Sequence[OrderedAnswers]) -> list[Scores | None]:
        """By the letters."""
        prompts = [
            comparison_prompt(
                one.question.text, one.first, one.second, one.question.reference, self.criterion
            )
            for one in pairs
        ]
        return self._score(prompts, CHOICES)

    def grade(self, answers: Sequence[GradedAnswer]) -> list[Scores | None]:
        """By the digits."""
        prompts = [
            grading_prompt(one.question.text, one.text, one.question.reference, self.criterion)
            for one in answers
        ]
        return self._score(prompts, GRADES)

    def _score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Scores | None]:
        conversations = [(Message("user", prompt),) for prompt in prompts]
        return self.model.score_choices(conversations, replies)


@dataclass(frozen=True)
class RewardJudge:
    """A reward model."""

    model: RewardModel
    tokenizer: Tokenizer
    name: str

    def compare(self, pairs: Sequence[OrderedAnswers]) -> list[Scores | None]:
        """By the difference of the rewards; never a tie but for equal ones."""
        return [self._compare(one) for one in pairs]

    def grade(self, answers: Sequence[GradedAnswer]) -> list[Scores | None]:
        """`UserError`: rewards have no grades."""
        raise UserError(
            f"{self.name}: a reward model compares answers, and gives no grades", "use --kind pairwise"
        )

    def _compare(self, pair: OrderedAnswers) -> Scores | None:
        messages, window = pair.question.messages, self.model.config.max_seq_len
        if pair.question.reference is not None:
            raise UserError("a reward model cannot read a reference", "leave it out of the prompts")
        for text in (pair.first, pair.second):
            if sum(map(len, completion_ids(self.tokenizer, messages, text))) > window:
                return None
        data = encode_rankings(self.tokenizer, [Ranking(messages, (pair.first, pair.second))], window)
        first, second = score_rankings(self.model, data).tolist()
        share = 0.5 * (1 + math.tanh((first - second) / 2))
        return share, 1 - share, 0.0
