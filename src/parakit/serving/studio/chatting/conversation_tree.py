"""A conversation as a tree: editing a message or answering it again makes a branch, and no turn is ever lost.

`head` is the last turn of the branch that is shown. A turn's siblings are the versions of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Conversation, Message

Role = Literal["user", "assistant"]
MAX_TITLE = 60


@dataclass(frozen=True)
class AnswerToken:
    """A token of an answer: the text that became certain with it, its log-probability in the model's own distribution, and
    the likeliest tokens there: (id, text, log-probability).
    """

    token_id: int
    text: str
    log_probability: float | None = None
    alternatives: tuple[tuple[int, str, float], ...] = ()


@dataclass
class ConversationTurn:
    """`parent`: the id of the turn before; empty for a first one. `figures`: of an answer: its model, tokens, seconds."""

    id: str
    parent: str
    role: Role
    content: str
    tokens: list[AnswerToken] = field(default_factory=list)
    figures: JsonObject = field(default_factory=dict)
    reasoning: str = ""
    """What an answer's model wrote before `content`; the first `n_reasoning_tokens` of its figures are the tokens."""


@dataclass
class ConversationTree:
    """Turns by their ids, in the order in which they were made."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    system: str = ""
    turns: dict[str, ConversationTurn] = field(default_factory=dict)
    head: str = ""

    # --- reading
    def path(self, head: str | None = None) -> list[ConversationTurn]:
        """The turns from the first to `head`, or to the tree's own."""
        found, turn_id = [], self.head if head is None else head
        while turn_id:
            turn = self.turns[turn_id]
            found.append(turn)
            turn_id = turn.parent
        return found[::-1]

    def messages(self, head: str | None = None) -> list[Message]:
        """The branch as messages, the system prompt first where there is one."""
        system = [Message("system", self.system)] if self.system.strip() else []
        turns = [
            Message(turn.role, turn.content, reasoning_content=turn.reasoning or None)
            for turn in self.path(head)
        ]
        return [*system, *turns]

    def versions(self, turn_id: str) -> list[str]:
        """The turn and its siblings, oldest first."""
        turn = self.turns[turn_id]
        return [one.id for one in self.turns.values() if one.parent == turn.parent and one.role == turn.role]

    def leaves(self) -> list[str]:
        """The last turns of all branches."""
        parents = {turn.parent for turn in self.turns.values()}
        return [turn_id for turn_id in self.turns if turn_id not in parents]

    @property
    def title(self) -> str:
        """The beginning of the first message."""
        first = next(iter(self.turns.values()), None)
        text = " ".join(first.content.split()) if first else ""
        return text if len(text) <= MAX_TITLE else text[: MAX_TITLE - 1] + "…"

    # --- changing
    def add(self, role: Role, content: str, parent: str | None = None) -> ConversationTurn:
        """A new turn after `parent`, or after the head; it becomes the head."""
        turn = ConversationTurn(secrets.token_hex(6), self.head if parent is None else parent, role, content)
        self.turns[turn.id] = turn
        self.head = turn.id
        return turn

    def edit(self, turn_id: str, content: str) -> ConversationTurn:
        """Another version of a user's turn, from which a new branch begins."""
        turn = self.turns[turn_id]
        return self.add(turn.role, content, turn.parent)

    def show_version(self, turn_id: str) -> None:
        """Make the newest branch through this turn the one that is shown."""
        self.head = turn_id
        while children := [turn.id for turn in self.turns.values() if turn.parent == self.head]:
            self.head = children[-1]

    # --- files
    def to_json(self) -> JsonObject:
        """As it is saved; the alternatives of tokens, which only a hover needs, are left out."""
        turns = []
        for turn in self.turns.values():
            row = asdict(turn) | {"tokens": [[t.token_id, t.text, t.log_probability] for t in turn.tokens]}
            turns.append(row)
        return {"id": self.id, "system": self.system, "head": self.head, "turns": turns}

    @classmethod
    def from_json(cls, saved: Any, where: str) -> ConversationTree:
        """A saved conversation. `UserError` for a file that is none."""
        try:
            tree = cls(str(saved["id"]), str(saved["system"]))
            for row in saved["turns"]:
                tokens = [AnswerToken(int(i), str(text), logs) for i, text, logs in row["tokens"]]
                if row["role"] not in ("user", "assistant") or (
                    row["parent"] and row["parent"] not in tree.turns
                ):
                    raise ValueError
                turn = ConversationTurn(
                    row["id"], row["parent"], row["role"], str(row["content"]), tokens, row["figures"]
                )
                turn.reasoning = str(row.get("reasoning", ""))
                tree.turns[turn.id] = turn
            tree.head = saved["head"] if saved["head"] in tree.turns else ""
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{where}: is not a saved conversation", "remove the file, or restore it"
            ) from None
        return tree

    def conversations(self, all_branches: bool = False) -> Iterator[Conversation]:
        """The shown branch, or all, as tuning data: branches that end with an answer, cut there."""
        seen = set()
        for leaf in self.leaves() if all_branches else [self.head]:
            messages = self.messages(leaf)
            while messages and messages[-1].role != "assistant":
                messages.pop()
            conversation = Conversation(tuple(messages))
            if len(messages) > 1 and conversation.digest not in seen:
                seen.add(conversation.digest)
                yield conversation
