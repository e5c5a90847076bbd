"""Prompts for RL: conversations up to the assistant's last turn, and that turn as the reference answer.

A conversation that ends with a user's turn is a prompt without an answer. Prompts become ids by the chat template, with
the assistant's turn opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.data.conversations.conversation import (
    Conversation,
    Message,
    read_conversations,
    write_conversations,
)
from parakit.data.conversations.sets import iter_conversations
from parakit.data.row_report import RowReport, skip_summary
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import supported_form
from parakit.tokens.config import LongRowRule
from parakit.tokens.long_rows import RowKind, WayOut, fit_rows
from parakit.tokens.preferences.encoding import MIN_PROMPT_TOKENS, truncate_left
from parakit.tokens.tokenizer.tokenizer import Tokenizer

PROMPTS = RowKind("prompts", "prompts", "cut on the left", "left out, which have no room")


@dataclass(frozen=True)
class RLPrompt:
    """A prompt, and its reference answer where there is one."""

    messages: tuple[Message, ...]
    answer: str | None
    token_ids: tuple[int, ...]
    tests: str | None = None
    """Unit tests of the program that the prompt wants, as JSON."""
    tools: str | None = None
    """The functions that the assistant may call, as JSON (`Conversation.tools`)."""


@dataclass(frozen=True)
class SampledCompletion:
    """A completion of a prompt, as a reward sees it. `ended`: not truncated. `counted`: which of its tokens the policy wrote,
    where results of tools are among them; None: all.
    """

    messages: tuple[Message, ...]
    answer: str | None
    completion: str
    ended: bool = True
    tests: str | None = None
    tools: str | None = None
    counted: tuple[bool, ...] | None = None

    def conversation(self) -> Conversation:
        """The prompt with the completion as the assistant's turn."""
        return Conversation((*self.messages, Message("assistant", self.completion)), tools=self.tools)

    def describe(self) -> str:
        """Prompt and completion on one line, shortened."""
        question = self.messages[-1].content if self.messages else ""
        return f"prompt {_quoted(question)}, completion {_quoted(self.completion)}"


def split_conversation(conversation: Conversation) -> tuple[tuple[Message, ...], str | None] | None:
    """The messages up to the user's last turn, and the text of the assistant's turn after it, if that is no call of a
    function; None without a user's turn.
    """
    messages = conversation.messages
    for i in range(len(messages) - 1, -1, -1):
        if messages[i].role == "user":
            answers = [
                m.content for m in messages[i + 1 : i + 2] if m.role == "assistant" and not m.tool_calls
            ]
            return messages[: i + 1], answers[0] if answers else None
    return None


def compile_prompts(
    tokenizer: Tokenizer,
    conversations: Iterable[Conversation],
    max_prompt: int,
    where: str,
    too_long: LongRowRule = "drop",
    max_new_tokens: int | None = None,
) -> list[RLPrompt]:
    """Distinct prompts. Those of over `max_prompt` tokens are left out, truncated on the left or refused; conversations
    without a user's turn are left out. `max_new_tokens`: what a completion may take of the window, for messages.

    Raises `UserError` where none is left.
    """
    prompts: dict[Conversation, RLPrompt] = {}
    n_empty = 0
    for conversation in conversations:
        parts = split_conversation(conversation)
        if parts is None:
            n_empty += 1
            continue
        messages, answer = parts
        prompt = Conversation(messages, tools=conversation.tools)
        written = supported_form(tokenizer, prompt)
        token_ids = tuple(compile_chat(tokenizer, written, add_generation_prompt=True).token_ids)
        one = RLPrompt(messages, answer, token_ids, conversation.tests, conversation.tools)
        prompts.setdefault(prompt, one)
    if n_empty:
        log(f"{where}: {n_empty} conversations without a user's turn left out")
    if not prompts:
        raise UserError(f"{where}: no usable prompt", "give conversations with a user's turn")
    found, lengths = list(prompts.values()), np.array([len(prompt.token_ids) for prompt in prompts.values()])
    try:
        stays, long_rows = fit_rows(
            PROMPTS,
            lengths,
            max_prompt,
            too_long,
            counted=np.ones_like(lengths),
            counted_left=np.full_like(lengths, max_prompt >= MIN_PROMPT_TOKENS) | (lengths <= max_prompt),
            shortest=np.minimum(lengths, MIN_PROMPT_TOKENS),
            way_out=_fewer_new_tokens(max_prompt, max_new_tokens),
        )
    except UserError as error:
        raise UserError(f"{where}: {error.message}", error.hint) from None
    for line in long_rows.lines():
        log(f"{where}: {line}")
    return [
        replace(one, token_ids=tuple(truncate_left(tokenizer, list(one.token_ids), excess)))
        if (excess := len(one.token_ids) - max_prompt) > 0
        else one
        for one, kept in zip(found, stays, strict=True)
        if kept
    ]


def _fewer_new_tokens(max_prompt: int, max_new_tokens: int | None) -> WayOut:
    """The window is shared by prompt and completion."""

    def way_out(whole: int, shortest: int) -> str | None:
        left = (max_new_tokens or 0) + max_prompt
        if max_new_tokens is None or left - shortest < 1:
            return None
        return f"max_new_tokens {max(1, left - whole)}"

    return way_out


def prompts_file(paths: Sequence[str], out: Path) -> Path:
    """One file of conversations: the only one in `paths`, else all of them, concatenated into `out`."""
    if len(paths) == 1:
        return Path(paths[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    reports = {path: RowReport() for path in paths}
    write_conversations(
        out, (row for path, report in reports.items() for row in read_conversations(path, report))
    )
    for path, report in reports.items():
        _log_report(path, report)
    return out


def read_prompts(
    path: Path,
    tokenizer: Tokenizer,
    max_prompt: int,
    split: str = "train",
    too_long: LongRowRule = "drop",
    max_new_tokens: int | None = None,
) -> list[RLPrompt]:
    """The prompts of one split of a conversations folder, or all of a `.jsonl` file, as `compile_prompts` makes them."""
    is_folder, report = (path / LINEAGE).is_file(), RowReport()
    conversations = iter_conversations(path, split) if is_folder else read_conversations(path, report)
    where = f"{path}, {split}" if is_folder else str(path)
    prompts = compile_prompts(tokenizer, conversations, max_prompt, where, too_long, max_new_tokens)
    _log_report(path, report)
    return prompts


def _log_report(path: str | Path, report: RowReport) -> None:
    for line in skip_summary(report.to_dict()):
        log(f"{path}: {line}")


def _quoted(text: str, max_chars: int = 120) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= max_chars else text[: max_chars - 1] + "…")
