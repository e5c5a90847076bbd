"""A ranking: one prompt, and answers to it from best to worst.

It is written as one JSON object a line, {"prompt": [messages], "ranking": [texts, best first]}; `formats.py` reads
other formats.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Conversation, Message


@dataclass(frozen=True, slots=True)
class Ranking:
    """`prompt` ends with the turn that the completions answer. `rewards` of the completions and `margin`, by how much
    the first is better in units of reward, are set where the data has them.
    """

    prompt: tuple[Message, ...]
    completions: tuple[str, ...]
    rewards: tuple[float, ...] | None = None
    margin: float | None = None

    def to_row(self) -> JsonObject:
        """The JSON object that `read_preferences` reads."""
        row: JsonObject = {
            "prompt": Conversation(self.prompt).to_row()["messages"],
            "ranking": list(self.completions),
        }
        if self.rewards is not None:
            row["rewards"] = list(self.rewards)
        if self.margin is not None:
            row["margin"] = self.margin
        return row

    def to_line(self) -> str:
        """The row as one line of JSON, line end included."""
        return json.dumps(self.to_row(), ensure_ascii=False) + "\n"

    @property
    def digest(self) -> str:
        """sha256 of the JSON row, in hexadecimal."""
        return hashlib.sha256(self.to_line().encode()).hexdigest()

    @property
    def prompt_digest(self) -> str:
        """sha256 of the prompt; it decides the split."""
        return Conversation(self.prompt).digest

    def conversation(self, rank: int) -> Conversation:
        """The prompt with the completion at `rank` (0 is the best)."""
        return Conversation((*self.prompt, Message("assistant", self.completions[rank])))
