"""Which characters of a rendered conversation an assistant has written, and so the loss counts.

The texts of an assistant's message and what the template writes between them (a call of a tool around its name and its
arguments, the marks of reasoning), what it writes between the generation prompt and the first of them, and the control
tokens that end the turn: all that a model generates which is served with this template. A text that the template writes
once more elsewhere, such as a function's name in the turn of its result, is not generated.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.chat.rendering import Rendered, ResponseFrame, SourceRun
from parakit.tokens.tokenizer.tokenizer import Tokenizer

CharSpan = tuple[int, int]


@dataclass(frozen=True)
class Control:
    """A control token that the template writes: where it is, with the spaces that its flags take. A text marker is one
    that its publisher does not flag as special, such as `</tool_call>`.
    """

    start: int
    end: int
    token: str
    is_text_marker: bool = False


@dataclass(frozen=True)
class _Group:
    """Consecutive texts of one message (None: of no message)."""

    message: int | None
    start: int
    end: int


def counted_spans(
    rendered: Rendered,
    messages: Sequence[JsonObject],
    counted: Sequence[bool],
    controls: Sequence[Control],
    frame: ResponseFrame,
    render_again: Callable[[list[JsonObject]], Rendered],
) -> list[CharSpan]:
    """Spans of characters, in order. `render_again` renders other messages in the same way; it is used to find the place
    of a message without text.
    """
    groups = _groups(rendered)
    written = {group.message for group in groups}
    silent = [number for number, counts in enumerate(counted) if counts and number not in written]
    if silent:
        groups = sorted([*groups, *_empty_groups(rendered, messages, silent, render_again)], key=_position)
    own_text, spans = rendered.own_text, []
    for before, group, after in zip([None, *groups], groups, [*groups[1:], None], strict=False):
        if group.message is None or not counted[group.message]:
            continue
        gap = own_text[before.end if before else 0 : group.start]
        limit = after.start if after else len(own_text)
        start = group.start - _n_generated(gap, frame, controls, group.start)
        spans.append((start, _end_of_turn(own_text, group.end, limit, controls, frame)))
    return spans


def _position(group: _Group) -> tuple[int, int]:
    return group.start, group.end


def _groups(rendered: Rendered) -> list[_Group]:
    groups: list[_Group] = []
    for run in rendered.runs:
        if not run.is_text or run.repeats:
            continue
        if groups and groups[-1].message == run.owner:
            groups[-1] = _Group(run.owner, groups[-1].start, run.end)
        else:
            groups.append(_Group(run.owner, run.start, run.end))
    return groups


def _empty_groups(
    rendered: Rendered,
    messages: Sequence[JsonObject],
    silent: list[int],
    render_again: Callable[[list[JsonObject]], Rendered],
) -> list[_Group]:
    """The places of messages without text: where a word in its stead is written, if the template writes the rest as
    before. A message that it leaves out has none.
    """
    word = secrets.token_hex(16)
    empty = {n for n in silent if not str(messages[n].get("content", "")).strip()}
    if len(empty) < len(silent) and any(run.is_unknown for run in rendered.runs):
        raise UserError(
            f"the chat template does something with the text of message {min(set(silent) - empty) + 1} that cannot be"
            " followed, so that it is unknown which tokens are the assistant's",
            "use a template that writes the text of a message with fewer steps",
        )
    if not empty:
        return []
    filled = render_again([m | {"content": word} if n in empty else m for n, m in enumerate(messages)])
    if filled.text.replace(word, "") != rendered.text:
        return []
    places = [(run.owner, run.start) for run in filled.runs if run.owner in empty]
    return [_Group(n, start - i * len(word), start - i * len(word)) for i, (n, start) in enumerate(places)]


def _n_generated(gap: str, frame: ResponseFrame, controls: Sequence[Control], end: int) -> int:
    """How many characters at the end of `gap` a model writes: those after the generation prompt, or as much of it as is
    there (a template may open a turn of the history with less); at least its first control token.
    """
    prompt = frame.generation_prompt
    token = next((c.token for c in controls if c.token in prompt), "")
    shortest = prompt.index(token) + len(token) if token else len(prompt)
    for length in range(len(prompt), max(shortest, 1) - 1, -1):
        place = gap.rfind(prompt[:length])
        if place >= 0:
            return len(gap) - place - length
    return len(frame.lead) if gap.endswith(frame.lead) else 0


def _end_of_turn(
    own_text: str, start: int, limit: int, controls: Sequence[Control], frame: ResponseFrame
) -> int:
    """Where the turn ends that is written up to `start`: after the tokens with which a response ends, else after the last
    of them, else after the first special token, else after the first control token.
    """
    place = own_text.find(frame.ending, start, limit) if frame.ending else -1
    if place >= 0:
        return place + len(frame.ending)
    following = [control for control in controls if start <= control.start and control.end <= limit]
    last = [control for control in following if control.token == frame.last_of_ending]
    special = [control for control in following if not control.is_text_marker]
    return next((found[0].end for found in (last, special, following) if found), start)


def find_controls(tokenizer: Tokenizer, rendered: Rendered) -> list[Control]:
    """The control tokens of the template's own text, in order, and the text markers of an assistant's text. Raises
    `UserError` where one is of unknown origin.
    """
    pattern = tokenizer.control_pattern
    if pattern is None:
        return []
    controls = _matches(pattern, rendered.text, tokenizer.text_markers)
    of_text = [run for run in rendered.runs if run.is_text]
    if any(_touched(control, of_text) for control in controls):  # somebody has written one
        masked = rendered.masked(tokenizer.text_marker_pattern)
        controls = _matches(pattern, masked, tokenizer.text_markers)
    unknown = [run for run in rendered.runs if run.is_unknown]
    for control in controls:
        if _touched(control, unknown):
            raise UserError(
                f"the chat template makes the control token {control.token} in a way that cannot be followed, so that a"
                " message could forge it",
                "use a template that writes control tokens as they are",
            )
    return controls


def _matches(pattern: re.Pattern[str], text: str, text_markers: Collection[str]) -> list[Control]:
    found = ((match, match[match.lastindex or 0]) for match in pattern.finditer(text))
    return [Control(match.start(), match.end(), token, token in text_markers) for match, token in found]


def _touched(control: Control, runs: Sequence[SourceRun]) -> bool:
    """Whether one of `runs`, which are in order, has a character of the token (or of the spaces that it takes)."""
    after = bisect_right(runs, control.start, key=lambda run: run.end)
    return after < len(runs) and runs[after].start < control.end
