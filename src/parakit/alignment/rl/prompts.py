"""Prompts: conversations up to the turn that the model is to write, and what stood there as the right answer.

The last assistant's turn of a conversation is what is asked for; a conversation that ends with a user's turn is a
prompt without an answer. Prompts become ids by the one chat template, the assistant's turn opened.
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
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class RLPrompt:
    """What is asked, and what is known to be right, where something is."""

    messages: tuple[Message, ...]
    answer: str | None
    token_ids: tuple[int, ...]
    tests: str | None = None
    """Of a program that is asked for, as JSON."""


@dataclass(frozen=True)
class SampledCompletion:
    """A completion of a prompt, as a reward sees it. `ended`: the model ended its turn itself."""

    messages: tuple[Message, ...]
    answer: str | None
    completion: str
    ended: bool = True
    tests: str | None = None

    def describe(self) -> str:
        """Prompt and completion on one line, cut short where they are long."""
        asked = self.messages[-1].content if self.messages else ""
        return f"prompt {_quoted(asked)}, completion {_quoted(self.completion)}"


def split_conversation(conversation: Conversation) -> tuple[tuple[Message, ...], str | None] | None:
    """The messages before the last assistant's turn, and that turn; None where nothing is asked."""
    messages = conversation.messages
    for i in range(len(messages) - 1, -1, -1):
        if messages[i].role == "user":
            answered = i + 1 < len(messages) and messages[i + 1].role == "assistant"
            return messages[: i + 1], messages[i + 1].content if answered else None
    return None


def compile_prompts(
    tokenizer: Tokenizer, conversations: Iterable[Conversation], room: int, where: str
) -> list[RLPrompt]:
    """Prompts of at most `room` tokens, each once; longer ones and those without a question are counted and left
    out. `UserError` where none is left.
    """
    found: dict[tuple[Message, ...], RLPrompt] = {}
    n_long = n_empty = 0
    for conversation in conversations:
        parts = split_conversation(conversation)
        if parts is None:
            n_empty += 1
            continue
        messages, answer = parts
        token_ids = tuple(compile_chat(tokenizer, messages, add_generation_prompt=True).token_ids)
        if len(token_ids) > room:
            n_long += 1
        else:
            found.setdefault(messages, RLPrompt(messages, answer, token_ids, conversation.tests))
    for n, why in ((n_long, f"longer than the {room} tokens that leave room for a completion"),
                   (n_empty, "conversations in which the user asks nothing")):  # fmt: skip
        if n:
            log(f"{where}: {n} prompts left out: {why}")
    if not found:
        raise UserError(
            f"{where}: holds no prompt that can be used",
            "give conversations with a user's turn, or lower max_new_tokens",
        )
    return list(found.values())


def prompts_file(paths: Sequence[str], out: Path) -> Path:
    """One file of conversations: the only one that was named, else all of them one after the other, written to `out`."""
    if len(paths) == 1:
        return Path(paths[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_conversations(out, (conversation for path in paths for conversation in read_conversations(path)))
    return out


def read_prompts(path: Path, tokenizer: Tokenizer, room: int, split: str = "train") -> list[RLPrompt]:
    """The prompts of one split of a conversations folder; of a `.jsonl` file all of them."""
    if (path / LINEAGE).is_file():
        return compile_prompts(tokenizer, iter_conversations(path, split), room, f"{path}, {split}")
    return compile_prompts(tokenizer, read_conversations(path), room, str(path))


def _quoted(text: str, most: int = 120) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= most else text[: most - 1] + "…")


def ids_of(prompts: Sequence[RLPrompt]) -> list[tuple[int, ...]]:
    """The prompts' token ids."""
    return [prompt.token_ids for prompt in prompts]
