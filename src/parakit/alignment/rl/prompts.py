"""Prompts for RL: conversations up to the assistant's last turn, and that turn as the reference answer.

A conversation that ends with a user's turn is a prompt without an answer. Prompts become ids by the chat template, with
the assistant's turn opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from parakit.tokens.tokenizer.tokenizer import Tokenizer


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
    """A completion of a prompt, as a reward sees it. `ended`: not truncated."""

    messages: tuple[Message, ...]
    answer: str | None
    completion: str
    ended: bool = True
    tests: str | None = None
    tools: str | None = None

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
    tokenizer: Tokenizer, conversations: Iterable[Conversation], max_prompt: int, where: str
) -> list[RLPrompt]:
    """Distinct prompts of at most `max_prompt` tokens; longer ones and conversations without a user's turn are counted and
    skipped. `UserError` where none is left.
    """
    prompts: dict[Conversation, RLPrompt] = {}
    n_long = n_empty = 0
    for conversation in conversations:
        parts = split_conversation(conversation)
        if parts is None:
            n_empty += 1
            continue
        messages, answer = parts
        prompt = Conversation(messages, tools=conversation.tools)
        token_ids = tuple(compile_chat(tokenizer, prompt, add_generation_prompt=True).token_ids)
        if len(token_ids) > max_prompt:
            n_long += 1
        else:
            found = RLPrompt(messages, answer, token_ids, conversation.tests, conversation.tools)
            prompts.setdefault(prompt, found)
    for n, why in ((n_long, f"longer than {max_prompt} tokens, the context window without max_new_tokens"),
                   (n_empty, "conversations without a user's turn")):  # fmt: skip
        if n:
            log(f"{where}: {n} prompts skipped: {why}")
    if not prompts:
        raise UserError(
            f"{where}: no usable prompt",
            "give conversations with a user's turn, or lower max_new_tokens",
        )
    return list(prompts.values())


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


def read_prompts(path: Path, tokenizer: Tokenizer, max_prompt: int, split: str = "train") -> list[RLPrompt]:
    """The prompts of one split of a conversations folder, or all of a `.jsonl` file."""
    if (path / LINEAGE).is_file():
        return compile_prompts(tokenizer, iter_conversations(path, split), max_prompt, f"{path}, {split}")
    report = RowReport()
    prompts = compile_prompts(tokenizer, read_conversations(path, report), max_prompt, str(path))
    _log_report(path, report)
    return prompts


def _log_report(path: str | Path, report: RowReport) -> None:
    for line in skip_summary(report.to_dict()):
        log(f"{path}: {line}")


def _quoted(text: str, max_chars: int = 120) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= max_chars else text[: max_chars - 1] + "…")
