"""Conversations survive a round trip; a row that is none is an error that names the row."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import (
    Conversation,
    Message,
    read_conversations,
    write_conversations,
)
from parakit.data.conversations.messages import ROLES

texts = st.text(alphabet=st.characters(exclude_categories=("Cs",)))
conversations = st.lists(st.builds(Message, st.sampled_from(ROLES), texts), min_size=1, max_size=4).map(
    lambda messages: Conversation(tuple(messages))
)
GOOD = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "id": 7})


@settings(max_examples=40)
@given(st.lists(conversations, min_size=1, max_size=5))
def test_what_is_written_is_read_again(tmp_path: Path, written: list[Conversation]) -> None:
    path = tmp_path / "c.jsonl"
    assert write_conversations(path, written) == len(written)
    assert list(read_conversations(path)) == written


def test_gzipped_rows_blank_lines_and_other_keys_of_a_row_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(f"{GOOD}\r\n\n{GOOD}".encode()))
    assert list(read_conversations(path)) == [Conversation((Message("user", "Hi"),))] * 2


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"hello"', "a str, not an object with keys"),
        ('{"text": "hello"}', "its keys are 'text'"),
        ('{"messages": []}', "no list of messages"),
        ('{"messages": ["hi"]}', "not an object"),
        ('{"messages": [{"role": "asistant", "content": "x"}]}', "did you mean 'assistant'"),
        ('{"messages": [{"role": 3, "content": "x"}]}', "unknown role 3"),
        ('{"messages": [{"role": ["user"], "content": "x"}]}', "unknown role"),
        ('{"messages": [{"role": "user", "content": null}]}', "content is null or not there"),
        ('{"messages": [{"role": "user", "content": "x", "tool_cals": [3]}]}', "did you mean 'tool_calls'"),
        ('{"messages": [], "messages": []}', "the key 'messages' is twice"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
    ],
)
def test_a_row_that_is_no_conversation_is_an_error_with_its_number(
    tmp_path: Path, row: str, says: str
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(f"{GOOD}\n{row}")
    with pytest.raises(UserError, match="row 2") as error:
        list(read_conversations(path))
    assert says in str(error.value)


def test_a_missing_or_damaged_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(read_conversations(tmp_path / "none.jsonl"))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(GOOD.encode() * 9)[:-9])
    with pytest.raises(UserError, match="damaged gzip"):
        list(read_conversations(tmp_path / "cut.jsonl.gz"))
