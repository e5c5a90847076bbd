"""Reasoning before an answer: the marks that published templates write, and completions taken apart at them."""

from __future__ import annotations

import json

import pytest

from parakit.inference.generation import constraints
from parakit.inference.tool_calls.grammar import answer_constraint, call_constraint
from parakit.inference.tool_calls.parsing import ToolCallStream
from parakit.inference.tool_calls.reasoning import ReasoningDelta, reasoning_syntax
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.inference.tool_calls.tools import Tool, ToolChoice
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.chat.template import stop_ids
from tests.attacks.chat_templates import with_markers
from tests.inference.tool_calls.test_inference_tool_calls import REST, TEMPLATES, WHO, walk
from tests.sample_text import sentences

MESSAGES = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}OPEN{{ m.reasoning_content }}"
    "CLOSE{% endif %}{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>PROMPT{% endif %}"
)
NOW = Tool("now", "", {"type": "object", "additionalProperties": False})


def template(opening: str, closing: str, prompt: str = "") -> str:
    return MESSAGES.replace("OPEN", opening).replace("CLOSE", closing).replace("PROMPT", prompt)


STYLES = {
    "tags": template("<think>\n", "\n</think>\n\n"),
    "opened": template("<think>\n", "\n</think>\n\n", "<think>\n"),
    "closed": template("<think>\n", "\n</think>\n\n", "<think>\n\n</think>\n\n"),
    "channels": template(
        "<|channel|>analysis<|message|>", "<|flush|><|assistant|><|channel|>final<|message|>"
    ),
    "text": template("[Think] ", " [/Think] "),
    "none": WHO + "{{ m.content }}" + REST,
}


@pytest.fixture(autouse=True)
def _only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process costs a quarter of a second, and these grammars are known to be harmless."""
    monkeypatch.setattr(constraints, "_try_in_child", lambda text, name: None)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    base = train_tokenizer(
        (sentences(i, 8) for i in range(8)), TokenizerConfig(kind="byte_bpe", vocab_size=400)
    )
    both = TEMPLATES["hermes"].replace("<tool_call>\n", "<think>\n\n</think>\n\n<tool_call>\n")
    return {name: with_markers(base, one) for name, one in (STYLES | {"hermes": both}).items()}


def ids_of(tokenizer: Tokenizer, *parts: str) -> list[int]:
    """The ids of parts, those that are control tokens as such."""
    special = tokenizer.special_tokens
    return [one for part in parts for one in ([special[part]] if part in special else tokenizer.encode(part))]


def test_the_marks_are_those_of_the_template(tokenizers: dict[str, Tokenizer]) -> None:
    found = {name: reasoning_syntax(tokenizer) for name, tokenizer in tokenizers.items()}
    assert {name: one.is_opened for name, one in found.items()} == {
        **dict.fromkeys(found, False),
        "opened": True,
    }
    for name in ("tags", "opened", "closed"):
        special = tokenizers[name].special_tokens
        assert (found[name].opening, found[name].closing) == ((special["<think>"],), (special["</think>"],))
    special = tokenizers["channels"].special_tokens
    assert found["channels"].opening == (special["<|channel|>"], "analysis", special["<|message|>"])
    assert found["text"].opening_text == "[Think]"
    assert found["none"].opening == ("<think>",)


@pytest.mark.parametrize("style", STYLES)
def test_reasoning_is_taken_apart_from_the_answer(style: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[style]
    marks = {
        "channels": (
            ("<|channel|>", "analysis", "<|message|>"),
            ("<|flush|>", "<|assistant|>", "<|channel|>", "final", "<|message|>"),
        ),
        "text": (("[Think] ",), (" [/Think]",)),
        "opened": ((), ("</think>",)),
        "none": (("<think>",), ("</think>",)),
    }
    opening, closing = marks.get(style, (("<think>",), ("</think>",)))
    thought, answer = "\nFirst a </thin then b.\n", "\n\nThe answer <is> é.\n"
    ids = ids_of(tokenizer, *opening, thought, *closing, answer)
    stream = ToolCallStream(tokenizer, None, reasoning=reasoning_syntax(tokenizer))
    events = [event for one in ids for event in stream.push(one)] + stream.finish()
    assert stream.reasoning is not None
    assert stream.reasoning.text == thought.strip()
    assert stream.text == answer.lstrip()
    assert "".join(one.text for one in events if isinstance(one, ReasoningDelta)) == thought.strip()
    assert "".join(one for one in events if isinstance(one, str)) == answer.lstrip()
    n_reasoning = len(ids_of(tokenizer, *opening, thought, *closing))
    assert stream.reasoning.n_tokens == n_reasoning


def test_what_is_no_reasoning_is_text(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["none"]
    for text, reasoning, answer in (
        ("A plain answer", "", "A plain answer"),
        (" <thin", "", " <thin"),
        ("Say <think>a</think> b", "", "Say <think>a</think> b"),
        ("<think>cut off", "cut off", ""),
        ("<think>\n</think>\n", "", ""),
        ("", "", ""),
    ):
        stream = ToolCallStream(tokenizer, None, reasoning=reasoning_syntax(tokenizer))
        for one in tokenizer.encode(text):
            stream.push(one)
        stream.finish()
        assert stream.reasoning is not None
        assert (stream.reasoning.text, stream.text) == (reasoning, answer)
    stream = ToolCallStream(
        tokenizers["tags"], None, stop=["STOP"], reasoning=reasoning_syntax(tokenizers["tags"])
    )
    for one in ids_of(tokenizers["tags"], "<think>", "a STOP b", "</think>", "c"):
        stream.push(one)
    assert stream.reasoning is not None
    assert stream.reasoning.text == "a"


def test_text_cannot_forge_the_marks(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["opened"]
    stream = ToolCallStream(tokenizer, None, reasoning=reasoning_syntax(tokenizer))
    for one in tokenizer.encode("a </think> b"):
        stream.push(one)
    stream.finish()
    assert stream.reasoning is not None
    assert (stream.reasoning.text, stream.text) == ("a </think> b", "")


def test_a_call_may_follow_reasoning_and_ends_it(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["hermes"]
    syntax = call_syntax(tokenizer)
    assert syntax.trigger == tokenizer.special_tokens["<tool_call>"]  # and not the empty reasoning before it
    call = ("<tool_call>", '\n{"name": "now", "arguments": {}}\n', "</tool_call>")
    for parts in (("<think>", "Hm.", "</think>", "\n\n", *call), ("<think>", "Hm.", *call), call):
        stream = ToolCallStream(tokenizer, syntax, reasoning=reasoning_syntax(tokenizer))
        for one in ids_of(tokenizer, *parts):
            stream.push(one)
        stream.finish()
        assert [one.name for one in stream.calls] == ["now"]
        assert stream.text == ""
        assert stream.reasoning is not None
        assert stream.reasoning.text == ("" if parts is call else "Hm.")


@pytest.mark.parametrize("style", ["tags", "opened", "none"])
def test_json_comes_behind_reasoning(style: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[style]
    schema = {
        "type": "object",
        "properties": {"x": {"type": "boolean"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    constraint = answer_constraint(tokenizer, reasoning_syntax(tokenizer), schema)
    assert (constraint is None) == (style == "none")
    if constraint is None:
        return
    opening = () if style == "opened" else ("<think>",)
    ids = ids_of(tokenizer, *opening, "I think.", "</think>", '\n\n{"x": true}')
    state = constraint.start()
    assert all(state.allowed(ids[:n])[one] for n, one in enumerate(ids))
    ends = list(stop_ids(tokenizer))
    assert state.allowed(ids)[ends].all()
    assert not state.allowed(ids[:-1])[ends].any()
    stream = ToolCallStream(tokenizer, None, reasoning=reasoning_syntax(tokenizer))
    for one in ids:
        stream.push(one)
    stream.finish()
    assert json.loads(stream.text) == {"x": True}


def test_a_required_call_comes_behind_reasoning_that_the_prompt_opens(
    tokenizers: dict[str, Tokenizer],
) -> None:
    tokenizer = tokenizers["opened"]
    syntax = call_syntax(tokenizer)
    constraint = call_constraint(tokenizer, syntax, [NOW], ToolChoice("required"))
    assert constraint is not None
    for seed in range(2):
        stream = ToolCallStream(tokenizer, syntax, reasoning=reasoning_syntax(tokenizer))
        ids = ids_of(tokenizer, "Hm.", "</think>") if seed else []
        state = constraint.start()
        assert all(state.allowed(ids[:n])[one] for n, one in enumerate(ids))
        assert not state.allowed(ids)[list(constraint.ends)].any()
        assert stream.reasoning is not None
    assert walk(constraint, 0, n_tokens=20)
