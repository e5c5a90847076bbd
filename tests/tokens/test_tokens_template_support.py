"""Tools, calls and reasoning that the chat template does not write get the plain form, the one of inference, with calls and
reasoning counted and results not; a template that writes them is followed.
"""

from __future__ import annotations

import json

import pytest

from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.conversations.messages import ToolCall
from parakit.inference.generation.completion import prompt_ids
from parakit.inference.tool_calls.prompt import tool_prompt
from parakit.inference.tool_calls.replies import read_reply
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.inference.tool_calls.tools import parse_tool
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import supported_form
from parakit.tokens.tokenizer.tokenizer import Tokenizer

USER, YES = Message("user", "2 + 3?"), Message("assistant", "5")
CONVERSATIONS = {
    "tools": Conversation((USER, YES), tools='[{"type": "function", "function": {"name": "add"}}]'),
    "tool_calls": Conversation((USER, Message("assistant", "", tool_calls=(ToolCall("add"),)))),
    "reasoning_content": Conversation((USER, Message("assistant", "5", reasoning_content="Count."))),
}
KNOWS_ALL = """{%- for tool in tools or [] %}{{ tool.function.name }};{% endfor -%}
{%- for m in messages %}{{ m.role }}: {{ m.reasoning_content or '' }}{{ m.content }}
{%- for call in m.tool_calls or [] %}{{ call.function.name }}{% endfor %}
{% endfor -%}"""


ADD = [{"type": "function", "function": {"name": "add", "description": "", "parameters": {"type": "object"}}}]
SOLVED = Conversation(
    (
        USER,
        Message(
            "assistant", "", tool_calls=(ToolCall("add", '{"a": 2}', "c1"), ToolCall("add", '{"a":3}', "c2"))
        ),
        Message("tool", "five <|end|>", name="add", tool_call_id="c1"),
        Message("tool", "six", name="add", tool_call_id="c2"),
        YES,
    ),
    tools=json.dumps(ADD),
)


THOUGHT = Message("assistant", "5", reasoning_content="Count on. ")
LAST_ONLY = (
    "{% for m in messages %}{{ m.role }}: {% if loop.last and m.reasoning_content %}<think>{{ m.reasoning_content }}</think>"
    "{% endif %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def counted_text(tokenizer: Tokenizer, conversation: Conversation) -> str:
    """What the loss counts, after the template."""
    chat = compile_chat(tokenizer, supported_form(tokenizer, conversation))
    pairs = zip(chat.token_ids, chat.loss_mask, strict=True)
    return tokenizer.decode([token_id for token_id, counts in pairs if counts])


def test_reasoning_that_the_template_would_drop_is_written_as_inference_reads_it(byte_bpe: Tokenizer) -> None:
    chat = compile_chat(byte_bpe, supported_form(byte_bpe, Conversation((USER, THOUGHT))))
    begin = len(prompt_ids(byte_bpe, [USER]))
    assert chat.token_ids[:begin] == prompt_ids(byte_bpe, [USER])
    assert chat.loss_mask[begin:] == [True] * (len(chat.token_ids) - begin)
    found = read_reply(byte_bpe, chat.token_ids[begin:])
    assert (found.reasoning, found.text) == ("Count on.", "5")


@pytest.mark.parametrize("template", [None, LAST_ONLY])
def test_an_answer_whose_reasoning_is_left_out_is_context(template: str | None, byte_bpe: Tokenizer) -> None:
    tokenizer = byte_bpe
    if template is not None:
        tokenizer = Tokenizer(
            byte_bpe.json, kind="byte_bpe", special=byte_bpe.special, chat_template=template
        )
    again = Message("user", "1 + 1?")
    both = Conversation((USER, THOUGHT, again, Message("assistant", "2", reasoning_content="Easy.")))
    counted = counted_text(tokenizer, both)
    assert "Easy." in counted
    assert counted.rstrip().endswith("2")
    assert "5" not in counted
    served = prompt_ids(tokenizer, [USER, THOUGHT, again])
    trained = compile_chat(tokenizer, supported_form(tokenizer, both)).token_ids
    assert trained[: len(served)] == served
    assert "5" in counted_text(
        tokenizer, Conversation((USER, Message("assistant", "5"), again, both.messages[-1]))
    )


@pytest.mark.parametrize("key", CONVERSATIONS)
def test_a_template_that_writes_them_is_followed(key: str, byte_bpe: Tokenizer) -> None:
    known = Tokenizer(byte_bpe.json, kind="byte_bpe", special=byte_bpe.special, chat_template=KNOWS_ALL)
    assert supported_form(known, CONVERSATIONS[key]) is CONVERSATIONS[key]
    assert supported_form(byte_bpe, Conversation((USER, YES))) == Conversation((USER, YES))


def test_the_plain_form_of_training_is_that_of_inference(byte_bpe: Tokenizer) -> None:
    trained = compile_chat(byte_bpe, supported_form(byte_bpe, SOLVED))
    syntax = call_syntax(byte_bpe)
    served = tool_prompt(SOLVED.messages, [parse_tool(ADD[0]["function"])], syntax)
    assert trained.token_ids == compile_chat(byte_bpe, served.messages, tools=served.tools).token_ids


def test_of_the_plain_form_calls_are_counted_and_results_are_not(byte_bpe: Tokenizer) -> None:
    chat = compile_chat(byte_bpe, supported_form(byte_bpe, SOLVED))
    pairs = list(zip(chat.token_ids, chat.loss_mask, strict=True))
    counted = byte_bpe.decode([token_id for token_id, counts in pairs if counts])
    other = byte_bpe.decode([token_id for token_id, counts in pairs if not counts])
    calls = [f'<tool_call>\n{{"name": "add", "arguments": {{"a": {n}}}}}\n</tool_call>' for n in (2, 3)]
    assert counted == " " + "\n".join(calls) + " 5"
    assert "five <|end|>" in other
    assert "six" in other
    n_turns = 5  # the system prompt with the tools, and the results in one turn
    assert chat.token_ids.count(byte_bpe.special_tokens["<|end|>"]) == n_turns
