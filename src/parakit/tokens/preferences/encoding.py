"""Encode rankings by the chat template: the prompt with an opened assistant's turn, and each completion with its end of
turn.

The prompt's ids must be a prefix of the whole conversation's, which is checked for every ranking: if a tokenizer merged
the end of the prompt with a completion, chosen and rejected would not have the same prompt.

Of a ranking that is too long the prompt is truncated on the left, or it is left out, or refused (`long_rows.py`); a
completion is never truncated. A ranking whose completions leave no room for a prompt is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from parakit.common.errors import UserError
from parakit.common.progress import Bar
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.preferences.rankings import Ranking
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import check_supported, supported_form
from parakit.tokens.config import LongRowRule
from parakit.tokens.long_rows import LongRows, RowKind, by_seq_len, fit_rows
from parakit.tokens.tokenizer.tokenizer import Tokenizer

RANKINGS = RowKind(
    "rankings",
    "completions",
    "with a prompt cut on the left",
    "left out, whose completions leave no room for a prompt",
)
MIN_PROMPT_TOKENS = 4  # of a truncated prompt


@dataclass(frozen=True)
class EncodedRankings:
    """Concatenated sequences of prompt and completion ids. Completion i has the tokens `offsets[i]:offsets[i + 1]`, the
    first `prompt_lengths[i]` of which are the prompt; ranking r has the completions `first[r]:first[r + 1]`, best first.
    """

    token_ids: np.ndarray  # uint32
    offsets: np.ndarray  # (n_completions + 1,) int64
    prompt_lengths: np.ndarray  # (n_completions,) int64
    first: np.ndarray  # (n_rankings + 1,) int64
    margins: np.ndarray  # (n_rankings,) float32; 0 where none is given
    pad_id: int | None
    tokenizer_digest: str
    long_rows: LongRows
    """Rankings whose prompt was truncated, and those that were left out."""

    @property
    def n_examples(self) -> int:
        """Rankings."""
        return len(self.first) - 1

    @property
    def n_completions(self) -> int:
        """Completions of all rankings."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(n_completions,) tokens of prompt and completion together."""
        return np.diff(self.offsets)

    def sequence(self, completion: int) -> np.ndarray:
        """Prompt and completion ids."""
        return self.token_ids[self.offsets[completion] : self.offsets[completion + 1]]


def completion_ids(
    tokenizer: Tokenizer,
    prompt: Sequence[Message],
    completion: str,
    prompt_ids: Sequence[int] | None = None,
    tools: str | None = None,
) -> tuple[list[int], list[int]]:
    """The ids of a prompt (with an opened assistant's turn) and of a completion (with its end of turn).

    Raises `UserError` where the whole conversation does not begin with the prompt's ids.
    """
    if prompt_ids is None:
        conversation = supported_form(tokenizer, Conversation(tuple(prompt), tools=tools))
        prompt_ids = compile_chat(tokenizer, conversation, add_generation_prompt=True).token_ids
    answered = Conversation((*prompt, Message("assistant", completion)), tools=tools)
    whole = compile_chat(tokenizer, supported_form(tokenizer, answered))
    n = len(prompt_ids)
    if whole.token_ids[:n] != list(prompt_ids):
        raise UserError(
            "the tokenizer merges prompt and completion: the ids of a prompt depend on its completion",
            "use a chat template that ends the generation prompt with a control token",
        )
    counted = [i for i, counts in enumerate(whole.loss_mask) if counts and i >= n]
    if not counted or counted != list(range(n, counted[-1] + 1)):
        raise UserError(
            "the chat template writes something between prompt and completion that is in neither",
            "use a template whose generation prompt is what it writes before an assistant's content",
        )
    return list(prompt_ids), whole.token_ids[n : counted[-1] + 1]


def encode_rankings(
    tokenizer: Tokenizer,
    rankings: Iterable[Ranking],
    max_seq_len: int,
    *,
    too_long: LongRowRule = "truncate",
    window: int | None = None,
    progress: Bar | None = None,
) -> EncodedRankings:
    """Encode rankings for rows of at most `max_seq_len` tokens. `window`: the longest row that the model reads, for
    messages; `progress` counts rankings.

    Raises `UserError` for a ranking that is too long where `too_long` is "refuse", and where none is left.
    """
    prompts: list[list[int]] = []
    answers: list[list[list[int]]] = []
    margins = []
    for ranking in rankings:
        check_supported(tokenizer, Conversation(ranking.prompt))
        prompts.append(compile_chat(tokenizer, ranking.prompt, add_generation_prompt=True).token_ids)
        answers.append(
            [completion_ids(tokenizer, ranking.prompt, one, prompts[-1])[1] for one in ranking.completions]
        )
        margins.append(ranking.margin or 0.0)
        if progress:
            progress.advance(1)
    if not prompts:
        raise UserError("a split has no preferences", "give more of them, or a larger validation_fraction")
    longest_answer = np.array([max(map(len, completions)) for completions in answers])
    n_prompt = np.array([len(ids) for ids in prompts])
    shortest = longest_answer + np.minimum(n_prompt, MIN_PROMPT_TOKENS)
    stays, long_rows = fit_rows(
        RANKINGS,
        lengths := n_prompt + longest_answer,
        max_seq_len,
        too_long,
        counted=np.ones_like(lengths),
        counted_left=(shortest <= max_seq_len).astype(np.int64),
        shortest=shortest,
        way_out=by_seq_len(window),
    )
    rows: list[list[list[int]]] = []
    prompt_lengths, n_completions = [], []
    for i in np.flatnonzero(stays).tolist():
        excess = int(lengths[i]) - max_seq_len
        prompt = truncate_left(tokenizer, prompts[i], excess) if excess > 0 else prompts[i]
        rows.append([prompt + answer for answer in answers[i]])
        prompt_lengths += [len(prompt)] * len(answers[i])
        n_completions.append(len(answers[i]))
    sequences = [np.array(ids, np.uint32) for ids in chain.from_iterable(rows)]
    return EncodedRankings(
        token_ids=np.concatenate(sequences),
        offsets=np.cumsum([0, *map(len, sequences)], dtype=np.int64),
        prompt_lengths=np.array(prompt_lengths, np.int64),
        first=np.cumsum([0, *n_completions], dtype=np.int64),
        margins=np.array(margins, np.float32)[stays],
        pad_id=tokenizer.pad_id,
        tokenizer_digest=tokenizer.digest,
        long_rows=long_rows,
    )


def truncate_left(tokenizer: Tokenizer, prompt_ids: list[int], n: int) -> list[int]:
    """Ids without the first `n`; a leading BOS stays, unless it opens turns too."""
    bos = prompt_ids[:1] if prompt_ids[0] == tokenizer.bos_id and prompt_ids.count(prompt_ids[0]) == 1 else []
    return bos + prompt_ids[n + len(bos) :]
