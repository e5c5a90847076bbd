"""Reasoning before an answer: how a model marks it, and its text apart from that of the answer.

The marks are those that the chat template writes around the reasoning of an assistant's turn (`<think>`, `[THINK]`, gpt-oss's
channels, ...). Where it writes none, they are the tags that it or the vocabulary has, else `<think>`. A prompt may open the
reasoning itself (Qwen3-Thinking, DeepSeek-R1): the model then begins within it. Marks that are control tokens are compared by
id, so that text cannot forge them; reasoning comes first in a turn, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.inference.generation.text_stream import StopStrings
from parakit.inference.tool_calls.parts import Matcher, SyntaxParts, common_prefix, split_controls
from parakit.tokens.chat.rendering import read_turns, render
from parakit.tokens.chat.template_support import known_reasoning_tags
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_USER, _THOUGHT, _ANSWER = "zqxquestion", "zqxthought", "zqxanswer"
_CLOSING_TAG = re.compile(r"<(?P<slash>/)[^<>/]+>|\[(?P<slash_2>/)[^\[\]]+\]")


@dataclass(frozen=True)
class ReasoningSyntax:
    """What stands before and after the reasoning of a turn; with `is_opened` the prompt ends within it."""

    opening: SyntaxParts
    closing: SyntaxParts
    is_opened: bool = False
    opening_text: str = ""
    closing_text: str = ""


@lru_cache(maxsize=16)
def reasoning_syntax(tokenizer: Tokenizer) -> ReasoningSyntax:
    """The marks of reasoning in the turns of a tokenizer's chat template."""
    prompt = _rendered(tokenizer, [{"role": "user", "content": _USER}], True)
    opening, closing = _template_marks(tokenizer, prompt) or known_reasoning_tags(tokenizer)
    return ReasoningSyntax(
        split_controls(tokenizer, opening),
        split_controls(tokenizer, closing),
        opening in prompt and prompt.rfind(closing) < prompt.rfind(opening),
        opening,
        closing,
    )


def _rendered(tokenizer: Tokenizer, messages: list[JsonObject], prompt: bool = False) -> str:
    """What the template writes behind the user's message; "" where it cannot."""
    if tokenizer.chat_template is None:
        return ""
    try:
        text = render(tokenizer, read_turns(messages).messages, prompt).text
    except UserError:
        return ""
    return text.rpartition(_USER)[2]


def _template_marks(tokenizer: Tokenizer, prompt: str) -> tuple[str, str] | None:
    turn: JsonObject = {"role": "assistant", "content": _ANSWER, "reasoning_content": _THOUGHT}
    written = _rendered(tokenizer, [{"role": "user", "content": _USER}, turn])
    before, _, rest = written.partition(_THOUGHT)
    closing, is_there, _ = rest.partition(_ANSWER)
    closing = closing.strip()
    if not is_there or not closing:
        return None
    if tag := _CLOSING_TAG.fullmatch(closing):
        return tag[0].replace("/", "", 1), closing
    opening = before[len(common_prefix(prompt, before)) :].strip()
    return (opening, closing) if opening else None


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Some text of the reasoning."""

    text: str


class ReasoningReader:
    """The beginning of one completion, up to its answer: `push` the units of each token, a character or the id of a control
    token each. `text` is the reasoning so far, without white space at its ends; `n_tokens` counts its tokens with the marks.
    `calls`: what opens a call of a tool, which ends reasoning that was not closed.
    """

    def __init__(
        self, syntax: ReasoningSyntax, stop: Sequence[str] = (), calls: SyntaxParts | None = None
    ) -> None:
        self._syntax = syntax
        self._stop = StopStrings(stop)
        self._ends = [syntax.closing, *([calls] if calls else [])]
        self._phase: Literal["before", "within", "gap", "answer"] = "within" if syntax.is_opened else "before"
        """In the gap between reasoning and answer white space belongs to neither."""
        self._has_begun = syntax.is_opened
        self._matcher: Matcher | None = None
        self._held: list[str | int] = []
        self._blank = self._new = ""
        self._n_pushed = 0
        self.text = ""
        self.n_tokens = 0

    @property
    def is_over(self) -> bool:
        """Whether all that comes belongs to the answer."""
        return self._phase == "answer"

    def push(self, units: Sequence[str | int]) -> tuple[str, list[str | int]]:
        """One token: the text of the reasoning that has become certain, and what belongs to the answer."""
        was_open = self._phase in ("before", "within")
        rest = [one for unit in units for one in self._read(unit)]
        if was_open:
            self._n_pushed += 1
            self.n_tokens = self._n_pushed if self._has_begun else 0
        return self._take(), rest

    def finish(self) -> tuple[str, list[str | int]]:
        """The completion has ended: what was held back."""
        held, self._held = self._held, []
        if self._phase == "before":
            return "", held
        self._think("".join(one for one in held if isinstance(one, str)))
        self._new += self._stop.flush()
        return self._take(), []

    def _take(self) -> str:
        """The new text, without the white space at its ends."""
        text = self._blank + self._new if self.text else self._new.lstrip()
        bare = text.rstrip()
        self._new, self._blank = "", text[len(bare) :]
        self.text += bare
        return bare

    def _think(self, text: str) -> None:
        self._new += self._stop.push(text)

    def _read(self, unit: str | int) -> list[str | int]:
        """What of the unit, and of those that were held back, belongs to the answer."""
        if self._phase == "gap" and not (isinstance(unit, str) and unit.isspace()):
            self._phase = "answer"
        if self._phase in ("gap", "answer"):
            return [unit] if self.is_over else []
        return self._read_before(unit) if self._phase == "before" else self._read_within(unit)

    def _read_before(self, unit: str | int) -> list[str | int]:
        matcher = self._matcher = self._matcher or Matcher([self._syntax.opening])
        self._held.append(unit)
        if not matcher.push(unit):
            held, self._held, self._phase = self._held, [], "answer"
            return held
        if matcher.is_done:
            self._held, self._matcher, self._phase, self._has_begun = [], None, "within", True
        return []

    def _read_within(self, unit: str | int) -> list[str | int]:
        if self._matcher is None and isinstance(unit, str) and unit.isspace():
            self._think(unit)
            return []
        matcher = self._matcher = self._matcher or Matcher(self._ends)
        self._held.append(unit)
        if matcher.push(unit):
            if not matcher.is_done:
                return []
            held, self._held = self._held, []
            self._new += self._stop.flush()
            is_call = matcher.matched == 1
            self._phase = "answer" if is_call else "gap"
            return held if is_call else []
        held, self._held, self._matcher = self._held, [], None
        if isinstance(held[0], str):
            self._think(held[0])
        return [left for one in held[1:] for left in self._read(one)]
