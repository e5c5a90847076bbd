"""Encode rankings by the chat template: the prompt with an opened assistant's turn, and each completion with its end of
turn.

The prompt's ids must be a prefix of the whole conversation's, which is checked for every ranking: if a tokenizer merged
the end of the prompt with a completion, chosen and rejected would not have the same prompt.

Too long prompts are truncated on the left and counted; a completion is never truncated. A ranking whose completions leave
no room for a prompt is skipped and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from parakit.common.errors import UserError
from parakit.common.progress import Bar
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.preferences.rankings import Ranking
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.tokenizer.tokenizer import Tokenizer

PromptTooLong = Literal["truncate_prompt", "refuse"]
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
    n_truncated: int = 0
    """Rankings whose prompt was truncated."""
    n_skipped: int = 0
    """Rankings whose completions do not fit."""

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
        asked = Conversation(tuple(prompt), tools=tools)
        prompt_ids = compile_chat(tokenizer, asked, add_generation_prompt=True).token_ids
    whole = compile_chat(tokenizer, Conversation((*prompt, Message("assistant", completion)), tools=tools))
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
    too_long: PromptTooLong = "truncate_prompt",
    progress: Bar | None = None,
) -> EncodedRankings:
    """Encode rankings for rows of at most `max_seq_len` tokens. `progress` counts rankings.

    Raises `UserError` for a ranking that is too long where `too_long` is "refuse", and where no ranking fits.
    """
    rows: list[np.ndarray] = []
    prompt_lengths, first, margins = [], [0], []
    n_truncated = n_skipped = 0
    for number, ranking in enumerate(rankings, 1):
        prompt_ids = compile_chat(tokenizer, ranking.prompt, add_generation_prompt=True).token_ids
        answers = [
            completion_ids(tokenizer, ranking.prompt, answer, prompt_ids)[1] for answer in ranking.completions
        ]
        over = len(prompt_ids) + max(map(len, answers)) - max_seq_len
        if over > 0:
            if too_long == "refuse":
                raise UserError(
                    f"ranking {number} has {max_seq_len + over} tokens, over the {max_seq_len} of a row",
                    "raise seq_len, or shorten it",
                )
            if len(prompt_ids) - over < MIN_PROMPT_TOKENS:
                n_skipped += 1
                continue
            prompt_ids = truncate_left(tokenizer, prompt_ids, over)
            n_truncated += 1
        rows += [np.array(prompt_ids + answer, np.uint32) for answer in answers]
        prompt_lengths += [len(prompt_ids)] * len(answers)
        first.append(len(rows))
        margins.append(ranking.margin or 0.0)
        if progress:
            progress.advance(1)
    if not rows:
        if not n_skipped:
            raise UserError(
                "a split has no preferences", "give more of them, or a larger validation_fraction"
            )
        why = f" ({n_skipped} have completions longer than that)"
        raise UserError(f"no preferences fit into rows of {max_seq_len} tokens{why}", "raise seq_len")
    return EncodedRankings(
        token_ids=np.concatenate(rows),
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        prompt_lengths=np.array(prompt_lengths, np.int64),
        first=np.array(first, np.int64),
        margins=np.array(margins, np.float32),
        pad_id=tokenizer.pad_id,
        tokenizer_digest=tokenizer.digest,
        n_truncated=n_truncated,
        n_skipped=n_skipped,
    )


def truncate_left(tokenizer: Tokenizer, prompt_ids: list[int], n: int) -> list[int]:
    """Ids without the first `n`; a leading BOS stays, unless it opens turns too."""
    bos = prompt_ids[:1] if prompt_ids[0] == tokenizer.bos_id and prompt_ids.count(prompt_ids[0]) == 1 else []
    return bos + prompt_ids[n + len(bos) :]
