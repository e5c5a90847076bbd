"""Calls whose arguments are no JSON object: XML and pythonic forms of published templates, parsed and constrained in their own
form; the reference is what the template writes of the same calls, and jsonschema.
"""

from __future__ import annotations

import json

import jsonschema
import pytest

from parakit.inference.generation import constraints
from parakit.inference.tool_calls.grammar import call_constraint
from parakit.inference.tool_calls.parsing import CallDelta, ToolCallStream, parse_calls
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.inference.tool_calls.tools import Tool, ToolChoice
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from tests.attacks.chat_templates import trl_templates, with_markers
from tests.inference.tool_calls.test_inference_tool_calls import REST, WHO, check_allowed, walk, written
from tests.sample_text import sentences

ARGUMENTS = "{% for k, v in c.function.arguments.items() %}"
TEXT_OR_JSON = "{{ v if v is string else v | tojson }}"
TEMPLATES = {
    "tags": "{{ tools | tojson }}" + WHO + "{% for c in m.tool_calls %}{{ '\n' if not loop.first }}<tool_call>\n<function="
    "{{ c.function.name }}>\n" + ARGUMENTS + "<parameter={{ k }}>\n" + TEXT_OR_JSON + "\n</parameter>\n{% endfor %}"
    "</function>\n</tool_call>{% endfor %}" + REST,
    "keys": "{{ tools | tojson }}" + WHO + "{% for c in m.tool_calls %}\n<tool_call>{{ c.function.name }}\n" + ARGUMENTS
    + "<arg_key>{{ k }}</arg_key>\n<arg_value>" + TEXT_OR_JSON + "</arg_value>\n{% endfor %}</tool_call>{% endfor %}" + REST,
    "python": "{{ tools | tojson }}" + WHO + "<|calls|>[{% for c in m.tool_calls %}{{ ', ' if not loop.first }}"
    "{{ c.function.name }}({% for k, v in c.function.arguments.items() %}{{ ', ' if not loop.first }}{{ k }}="
    "{{ \"'\" + v + \"'\" if v is string else v }}{% endfor %}){% endfor %}]<|no_calls|>" + REST,
    "plain": "{{ tools | tojson }}" + WHO + "{% for c in m.tool_calls %}<Call {{ c.function.name }}>" + ARGUMENTS
    + "<p {{ k }}>" + TEXT_OR_JSON + "</p>{% endfor %}</Call>{% endfor %}" + REST,
}  # fmt: skip
ADD = Tool(
    "add",
    "The sum.",
    {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "maximum": 99},
            "b": {"enum": ["x", "é"]},
            "text": {"type": "string"},
            "flag": {"type": "boolean"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/one"}, "maxItems": 2},
        },
        "required": ["a", "text"],
        "$defs": {"one": {"type": "integer", "maximum": 9, "minimum": 0}},
    },
)
NOW = Tool("now", "", {"type": "object", "properties": {"zone": {"type": "string"}}})
TOOLS = [ADD, NOW]
TEXT = 'Two\nlines, a "quote" (and <b>) = 3'
CALLS = [
    ("add", json.dumps({"a": 7, "b": "é", "text": TEXT, "flag": True, "list": [1, 2]})),
    ("now", "{}"),
    ("add", json.dumps({"a": 0, "text": "true"})),
]
STYLES = sorted(TEMPLATES)


@pytest.fixture(autouse=True)
def _only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process costs a quarter of a second, and these grammars are known to be harmless."""
    monkeypatch.setattr(constraints, "_try_in_child", lambda text, name: None)


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return train_tokenizer(
        (sentences(i, 8) for i in range(8)), TokenizerConfig(kind="byte_bpe", vocab_size=400)
    )


@pytest.fixture(scope="module")
def tokenizers(base: Tokenizer) -> dict[str, Tokenizer]:
    return {name: with_markers(base, template) for name, template in TEMPLATES.items()}


def calls_of(style: str, n: int) -> list[tuple[str, str]]:
    """A pythonic template that does not escape its texts gets one that needs none."""
    one_line = [(name, arguments.replace("\\n", " ")) for name, arguments in CALLS[:n]]
    return one_line if style == "python" else CALLS[:n]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("n_calls", [1, 2, 3])
def test_what_the_template_writes_is_parsed(
    style: str, n_calls: int, tokenizers: dict[str, Tokenizer]
) -> None:
    tokenizer = tokenizers[style]
    syntax = call_syntax(tokenizer)
    assert syntax.is_templates
    assert syntax.parameters is not None
    calls = calls_of(style, min(n_calls, 2))  # the probe of `written` has ids for two
    text, found = parse_calls(tokenizer, syntax, written(tokenizer, syntax, calls), tools=TOOLS)
    assert text == ""
    assert all(call.is_complete for call in found)
    assert [(call.name, json.loads(call.arguments)) for call in found] == [
        (name, json.loads(arguments)) for name, arguments in calls
    ]


@pytest.mark.parametrize("style", STYLES)
def test_what_the_template_writes_is_allowed(style: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[style]
    syntax = call_syntax(tokenizer)
    ids = written(tokenizer, syntax, calls_of(style, 2))
    check_allowed(tokenizer, syntax, TOOLS, ids)


@pytest.mark.parametrize("style", STYLES)
def test_a_required_call_matches_its_schema(style: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[style]
    syntax = call_syntax(tokenizer)
    for choice in (ToolChoice("required"), ToolChoice("required", ("add",), parallel=False)):
        constraint = call_constraint(tokenizer, syntax, TOOLS, choice)
        assert constraint is not None
        for seed in range(3):
            ids = walk(constraint, seed)
            _, calls = parse_calls(tokenizer, syntax, ids, tools=TOOLS)
            assert calls
            assert choice.parallel or [call.name for call in calls] == ["add"]
            for call in (call for call in calls if call.is_complete):
                schema = {"add": ADD, "now": NOW}[call.name].schema
                jsonschema.validate(json.loads(call.arguments), schema)


def test_pieces_of_arguments_come_one_by_one(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["tags"]
    syntax = call_syntax(tokenizer)
    ids = [*tokenizer.encode("I add. "), *written(tokenizer, syntax, CALLS[:1])]
    stream = ToolCallStream(tokenizer, syntax, tools=TOOLS)
    events = [event for one in ids for event in stream.push(one)] + stream.finish()
    deltas = [event for event in events if isinstance(event, CallDelta)]
    assert stream.text == "I add."
    assert "".join(delta.arguments for delta in deltas) == stream.calls[0].arguments
    assert len(deltas) == 6  # the name, then each of five arguments


def test_what_breaks_off_stays_as_far_as_it_came(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["plain"]
    syntax = call_syntax(tokenizer)
    for text, expected, arguments in (
        ("Hm <Call add><p a>7</p><p text>the", "Hm", ['{"a": 7']),
        ("Hm <Call add", "Hm <Call add", []),
        ("Hm <Call nobody knows>", "Hm <Call nobody knows>", []),
        ("<Call now></Call> Done", " Done", ["{}"]),
        ("<Call now><p zone>a</b></p></Call>", "", ['{"zone": "a</b>"}']),
    ):
        found, calls = parse_calls(tokenizer, syntax, tokenizer.encode(text), tools=TOOLS)
        assert (found, [call.arguments for call in calls]) == (expected, arguments)


@pytest.mark.skipif(not trl_templates(), reason="trl is not installed")
@pytest.mark.parametrize(
    ("name", "n_calls"),
    [("glm4moe", 2), ("qwen3_6", 2), ("nemotron_3_nano", 2), ("lfm2_v2", 2), ("qwen3", 2)],
)
def test_published_forms_are_parsed(name: str, n_calls: int, base: Tokenizer) -> None:
    tokenizer = with_markers(base, trl_templates()[name])
    syntax = call_syntax(tokenizer)
    calls = [("add", '{"a": 7, "text": "two words"}'), ("now", "{}")][:n_calls]
    _, found = parse_calls(tokenizer, syntax, written(tokenizer, syntax, calls), tools=TOOLS)
    assert [(call.name, json.loads(call.arguments)) for call in found] == [
        (name, json.loads(arguments)) for name, arguments in calls
    ]
