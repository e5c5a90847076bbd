"""Every chat template that trl ships, on conversations of every kind: Parakit's ids are transformers'.

    python -m tests.attacks.chat_templates [--n N] [--seed S]

Each template gets a small byte-pair tokenizer that has the template's own markers as tokens. `--n` adds N conversations to
the fixed ones, put together at random. The last line counts (template, conversation, generation prompt): equal ids, both
refuse, Parakit alone refuses (with its reasons above), ids that differ. Only the last are faults; so is a refusal whose reason
is not true.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tokenizers import AddedToken
from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.errors import UserError
from parakit.tokens import Tokenizer, TokenizerConfig, compile_chat, train_tokenizer
from tests.sample_text import sentences

Messages = list[dict[str, Any]]
_MARKER = re.compile(
    r"<\|[^|\s'\"{}]{1,40}\|?>|<[a-z_]+\|>|<｜[^｜]{1,40}｜>|</?[a-z_]{3,30}>|\[/?[A-Z_]{3,20}\]|<[A-Z_]{3,30}>"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "A town."}},
            "required": ["place"],
        },
        "return": {"type": "string"},
    },
}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(name: str = "weather", **arguments: Any) -> dict[str, Any]:
    return {"id": "call00001", "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = {"role": "system", "content": "You answer in one sentence."}
RESULT = {"role": "tool", "name": "weather", "tool_call_id": "call00001", "content": '{"degrees": -3}'}
CONVERSATIONS: dict[str, tuple[Messages, list[Any] | None]] = {
    "plain": ([user("Hello there"), assistant("Good day, été!")], None),
    "with system": ([SYSTEM, user("Hello"), assistant("  Good day\n")], None),
    "many turns": (
        [m for i in range(4) for m in (user(f"Question {i}?\n\nAnd  more."), assistant(f"Answer {i}"))],
        None,
    ),
    "tools declared": ([user("What is 2 + 2?"), assistant("4")], [WEATHER]),
    "tool calls without content": (
        [user("The weather of Oslo?"), assistant(None, tool_calls=[call(place="Oslo")])],
        [WEATHER],
    ),
    "tool results": (
        [
            SYSTEM,
            user("The weather of Oslo?"),
            assistant("", tool_calls=[call(place="Oslo")]),
            RESULT,
            assistant("It is -3 degrees in Oslo."),
        ],
        [WEATHER],
    ),
    "reasoning": (
        [
            user("One and one?"),
            assistant("Two", reasoning_content="Easy.\nThat is 2."),
            user("And two?"),
            assistant("Four", reasoning_content="2 + 2"),
        ],
        None,
    ),
    "think in text": (
        [
            user("One and one?"),
            assistant("<think>\nEasy.\n</think>\n\nTwo"),
            user("And two?"),
            assistant("<think>\n2 + 2\n</think>\n\nFour"),
        ],
        None,
    ),
    "empty text": ([user("Hello"), assistant(""), user(""), assistant("Yes?")], None),
    "content parts": (
        [
            user([{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}]),
            assistant([{"type": "text", "text": "Good day"}]),
        ],
        None,
    ),
}


def trl_templates() -> dict[str, str]:
    """The templates of the installed trl by name; empty without it."""
    try:
        import trl
    except ImportError:
        return {}
    folder = Path(trl.__file__).parent / "chat_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


def base_tokenizer() -> Tokenizer:
    """A small byte-pair tokenizer."""
    return train_tokenizer([sentences(0, 200)], TokenizerConfig(kind="byte_bpe", vocab_size=500))


def with_markers(base: Tokenizer, template: str) -> Tokenizer:
    """`base` with a template, and with the template's markers as tokens; `<think>` and its like are no special ones, as in
    published tokenizers.
    """
    backend = HuggingFaceTokenizer.from_str(base.json)
    markers = sorted(set(_MARKER.findall(template)))
    backend.add_tokens([AddedToken(m, special="|" in m or "｜" in m, normalized=False) for m in markers])
    return Tokenizer(backend.to_str(), kind=base.kind, special=base.special, chat_template=template)


def random_conversations(n: int, seed: int) -> Iterator[tuple[Messages, list[Any] | None]]:
    """Conversations of one to six turns with pieces of text that templates look for."""
    rng = np.random.default_rng(seed)
    pieces = [
        "<think>",
        "</think>",
        "\n",
        "  ",
        "a",
        "Oslo",
        "{{",
        "é",
        '"',
        "<tool_call>",
        "",
        "\n\n",
        "<b>",
        "'",
        "&",
    ]
    texts = lambda: "".join(rng.choice(pieces, rng.integers(0, 8)))  # noqa: E731
    for _ in range(n):
        messages: Messages = [{"role": "system", "content": texts()}] if rng.random() < 0.3 else []
        tools = [WEATHER] if rng.random() < 0.4 else None
        for _ in range(rng.integers(1, 4)):
            messages.append(user(texts()))
            more: dict[str, Any] = {"reasoning_content": texts()} if rng.random() < 0.3 else {}
            if tools and rng.random() < 0.5:
                calls = [call(place=texts(), n=int(rng.integers(9)))]
                messages += [
                    assistant(texts() or None, tool_calls=calls, **more),
                    RESULT | {"content": texts()},
                ]
                more = {}
            messages.append(assistant(texts(), **more))
        yield messages, tools


def _without_typed_tokens(tokenizer: Tokenizer, messages: Messages) -> Messages:
    """The messages with another bracket in each control token that they spell, but for an assistant's text markers."""

    def change(value: Any, kept: frozenset[str]) -> Any:
        if isinstance(value, str):
            for token in tokenizer.special_tokens.keys() - kept:
                value = value.replace(token, f"‹{token[1:]}")
            return value
        if isinstance(value, dict):
            return {key: change(item, kept) for key, item in value.items()}
        return [change(item, kept) for item in value] if isinstance(value, list) else value

    markers = tokenizer.text_markers
    return [
        message
        | change({k: v for k, v in message.items() if k != "role"}, markers if by_assistant else frozenset())
        for message in messages
        for by_assistant in [message["role"] == "assistant"]
    ]


def compare(
    tokenizer: Tokenizer, reference: Any, messages: Messages, tools: list[Any] | None, prompt: bool
) -> tuple[str, str]:
    """The outcome, and the reason of a refusal or what differs. Control tokens that a message spells are text."""
    try:
        wanted = reference.apply_chat_template(
            messages, tools=tools, add_generation_prompt=prompt, return_dict=False
        )
    except Exception as error:
        wanted, refused = None, f"{type(error).__name__}: {error}"
    try:
        got = compile_chat(tokenizer, messages, prompt, tools=tools).token_ids
    except UserError as error:
        return ("both refuse" if wanted is None else "Parakit alone refuses"), error.message
    if wanted is None:
        return "transformers alone refuses", refused
    if got == wanted:
        return "equal", ""
    harmless = _without_typed_tokens(tokenizer, messages)
    if harmless != messages:
        safe = reference.apply_chat_template(
            harmless, tools=tools, add_generation_prompt=prompt, return_dict=False
        )
        same_text = tokenizer.decode(got, skip_special=False) == reference.decode(wanted)
        controls, expected = ([i for i in ids if i in tokenizer.control_ids] for ids in (got, safe))
        if same_text and controls == expected:
            return "equal but for typed control tokens", ""
    return "differ", f"{tokenizer.decode(got, skip_special=False)!r} for {reference.decode(wanted)!r}"


def attack(n: int = 0, seed: int = 0, only: str = "", verbose: bool = False) -> Counter[str]:
    """Outcomes over the templates whose names contain `only`."""
    from transformers import AutoTokenizer

    base, outcomes = base_tokenizer(), Counter[str]()
    conversations = [
        *CONVERSATIONS.items(),
        *((f"random {i}", c) for i, c in enumerate(random_conversations(n, seed))),
    ]
    for name, template in trl_templates().items():
        if only not in name:
            continue
        tokenizer = with_markers(base, template)
        with TemporaryDirectory() as folder:
            tokenizer.save(folder)
            reference = AutoTokenizer.from_pretrained(folder)
        for kind, (messages, tools) in conversations:
            for prompt in (False, True):
                given = messages[:-1] if prompt else messages
                outcome, reason = compare(tokenizer, reference, given, tools, prompt)
                outcomes[outcome] += 1
                if verbose and outcome not in ("equal", "both refuse"):
                    print(
                        f"{name}, {kind}{', prompt' if prompt else ''}: {outcome}: {reason}"[:600], flush=True
                    )
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    outcomes = attack(options.n, options.seed, options.only, verbose=True)
    print(f"{len(trl_templates())} templates:", json.dumps(dict(outcomes.most_common())))


if __name__ == "__main__":
    main()
