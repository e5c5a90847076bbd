"""A set whose tools, calls or reasoning the chat template would drop is refused; a template that writes them is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.conversations.messages import ToolCall
from parakit.tokens.chat.template_support import check_supported
from parakit.tokens.shards import write_shards
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


@pytest.mark.parametrize("key", CONVERSATIONS)
def test_what_the_template_would_drop_is_refused_by_name(
    key: str, byte_bpe: Tokenizer, tmp_path: Path
) -> None:
    conversation = CONVERSATIONS[key]
    with pytest.raises(UserError, match=f"{key}.*does not write.*2 . 3") as caught:
        write_shards({"train": [conversation]}, byte_bpe, tmp_path / "out")
    assert caught.value.hint
    assert not (tmp_path / "out").exists()
    check_supported(byte_bpe, Conversation((USER, YES, Message("tool", "5", name="add"))))
    known = Tokenizer(byte_bpe.json, kind="byte_bpe", special=byte_bpe.special, chat_template=KNOWS_ALL)
    check_supported(known, conversation)
