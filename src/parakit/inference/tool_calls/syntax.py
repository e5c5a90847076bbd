"""How a model writes a call: learned from what its chat template makes of a conversation with calls.

The template renders an assistant's turn with one call and with two, whose names and arguments are known: what it writes around
them is the syntax (Hermes' and Qwen's `<tool_call>` JSON, Mistral's list behind `[TOOL_CALLS]`, Llama's bare object, ...),
control tokens included, as ids. A template without calls, or one whose arguments are not a JSON object (`<parameter=a>`,
`add(a=2)`), gets the syntax `DESCRIBED`, which the prompt then describes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.chat.rendering import read_turns, render
from parakit.tokens.chat.template import stop_ids
from parakit.tokens.chat.template_support import template_writes
from parakit.tokens.tokenizer.tokenizer import Tokenizer

SyntaxPart = str | int | None
"""Text, the id of a control token, or the place of a call's own id (9 letters and digits)."""
SyntaxParts = tuple[SyntaxPart, ...]
ID_LENGTH = 9  # of a call in templates that write it: Mistral's accept no other
_NAMES, _IDS, _KEY, _VALUE = ("zqxone", "zqxtwo"), ("zqxident1", "zqxident2"), "zqxkey", "zqxvalue"
_ARGUMENTS = re.compile(rf'\{{\s*"{_KEY}"\s*:\s*"{_VALUE}"\s*\}}')
_USER: JsonObject = {"role": "user", "content": "a"}
_TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object"}}}
    for name in _NAMES
]


@dataclass(frozen=True)
class CallSyntax:
    """What stands before the name of the first call, between a name and its arguments, between two calls (None: a turn has one
    call) and after the last.
    """

    before: SyntaxParts
    between: SyntaxParts
    join: SyntaxParts | None
    after: SyntaxParts
    is_templates: bool = True
    """Whether the chat template writes tools and calls itself."""

    @property
    def trigger(self) -> str | int | None:
        """The text or control token after which a turn is a call; None where a turn is one that begins as `before` does."""
        first = next((part for part in self.before if not isinstance(part, str) or part.strip()), None)
        if not isinstance(first, str):
            return first
        return re.split(r"[\s{]", first.strip(), maxsplit=1)[0] or None


DESCRIBED = CallSyntax(
    ('<tool_call>\n{"name": "',),
    ('", "arguments": ',),
    ('}\n</tool_call>\n<tool_call>\n{"name": "',),
    ("}\n</tool_call>",),
    is_templates=False,
)


@lru_cache(maxsize=16)
def call_syntax(tokenizer: Tokenizer) -> CallSyntax:
    """The syntax of calls of a tokenizer's chat template, or `DESCRIBED`."""
    if not (template_writes(tokenizer, "tools") and template_writes(tokenizer, "tool_calls")):
        return DESCRIBED
    one, two = (_around_calls(tokenizer, n) for n in (1, 2))
    if one is None:
        return DESCRIBED
    before, between, after = one
    join = two[2] if two is not None and (two[0], two[1], two[4]) == one else None
    syntax = CallSyntax(before, between, join, after)
    return syntax if before and syntax.before != ("",) else DESCRIBED


def _around_calls(tokenizer: Tokenizer, n_calls: int) -> tuple[SyntaxParts, ...] | None:
    """What is written before, between and after the names and arguments of `n_calls` calls; None where it cannot be found."""
    calls = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": {_KEY: _VALUE}}}
        for name, i in zip(_NAMES[:n_calls], _IDS, strict=False)
    ]
    turn: JsonObject = {"role": "assistant", "content": "", "tool_calls": calls}
    try:
        prompt = render(tokenizer, read_turns([_USER]).messages, True, _TOOLS).text
        whole = render(tokenizer, read_turns([_USER, turn]).messages, False, _TOOLS).text
    except UserError:
        return None
    if not whole.startswith(prompt):
        return None
    rest, found = whole[len(prompt) :], list[str]()
    for name in _NAMES[:n_calls]:
        before, is_there, rest = rest.partition(name)
        arguments = _ARGUMENTS.search(rest)
        if not is_there or arguments is None:
            return None
        found += [before, rest[: arguments.start()]]
        rest = rest[arguments.end() :]
    if any(mark in piece for piece in [*found, rest] for mark in (*_NAMES, _KEY, _VALUE)):
        return None
    parts = [_split(tokenizer, piece) for piece in [*found, rest]]
    ends = frozenset(stop_ids(tokenizer))
    end = next((i for i, part in enumerate(parts[-1]) if part in ends), len(parts[-1]))
    parts[-1] = parts[-1][:end]
    return tuple(parts)


def _split(tokenizer: Tokenizer, text: str) -> SyntaxParts:
    """The text with ids in place of control tokens, and None in place of the calls' own ids."""
    pattern, parts, position = tokenizer.control_pattern, list[SyntaxPart](), 0
    for match in pattern.finditer(text) if pattern is not None else ():
        parts += [text[position : match.start()], tokenizer.special_tokens[match[match.lastindex or 0]]]
        position = match.end()
    parts.append(text[position:])
    pieces: list[SyntaxPart] = []
    for part in parts:
        if isinstance(part, str):
            for i, piece in enumerate(re.split("|".join(_IDS), part)):
                pieces += [None, piece] if i else [piece]
        else:
            pieces.append(part)
    return tuple(part for part in pieces if part != "")


def write_calls(syntax: CallSyntax, calls: Sequence[tuple[str, str]]) -> str:
    """Calls, (name, arguments as JSON text) each, in a syntax without control tokens."""
    written = ""
    for i, (name, arguments) in enumerate(calls):
        parts = syntax.before if i == 0 else syntax.join or syntax.before
        written += "".join(map(str, parts)) + name + "".join(map(str, syntax.between)) + arguments
    return written + "".join(map(str, syntax.after))


def compact(arguments: str) -> str:
    """Arguments as one line of JSON, as models are trained on them."""
    return json.dumps(json.loads(arguments), ensure_ascii=False)
