"""JSON that may be damaged or hostile: what is accepted is what `json` reads, and a refusal names file, key and value."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import is_file, is_plain_name, read_json
from parakit.common.json_reading import MAX_DEPTH, is_text, parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def _is_strict(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_text(key) and _is_strict(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_strict, value))
    return is_text(value) if isinstance(value, str) else not isinstance(value, float) or abs(value) <= 1e308


@given(VALUES, st.booleans())
def test_strict_json_is_read_as_it_is_and_nothing_else(value: Any, ascii_only: bool) -> None:
    """NaN, Infinity, 1e309 and half characters are refused wherever they stand."""
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if _is_strict(value):
        assert parse_json(data, "a.json") == value
    else:
        with pytest.raises(CorruptArtifact, match=r"^a\.json: "):
            parse_json(data, "a.json")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"a": {"b": [1, NaN]}}', r"`a.b.1` is nan"),
        ('{"a": -Infinity}', "`a` is -inf"),
        ('{"a": 1e999}', "`a` is inf"),
        ('{"a": 1' + "0" * 400 + "}", "`a` is a number of more than 300 digits"),
        ('{"a": "\\ud800x"}', "half a character"),
        ('{"\\udc00": 1}', "half a character"),
        ("[" * 100_000, "not readable"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
        ("\x00", "not readable"),
    ],
)
def test_a_refusal_names_the_key(text: str, names: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(CorruptArtifact, match=names) as caught:
        read_json(path)
    assert str(path) in caught.value.message


def test_words_that_only_look_suspicious_are_read() -> None:
    vocabulary = {"NaN": 0, "Infinity": 1, "[[[[": 2, "1e999": 3, "9" * 300: 4, "\\ud800": 5, "👩": 6}
    assert parse_json(json.dumps(vocabulary).encode(), "tokenizer.json") == vocabulary
    brackets = ["[" * 500]
    assert parse_json(json.dumps(brackets).encode(), "tokenizer.json") == brackets


def test_a_text_of_too_many_values_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(UserError, match="1001 values of JSON; 1000 is the limit"):
        parse_json(b"[" + b"0," * 1000 + b"0]", "a.json", max_values=1000)


class Split(BaseModel):
    n_tokens: int


class Index(BaseModel):
    splits: dict[str, Split]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (
            {"splits": {"train": {"n_tokens": "7"}}},
            "`splits.train.n_tokens` is '7': input should be a valid integer",
        ),
        ({"splits": {"train": {}}}, "lacks `splits.train.n_tokens`"),
        ({"splits": [1, 2]}, "`splits` is a list of 2"),
        ([], "holds"),
    ],
)
def test_another_shape_is_named_by_its_key(value: Any, names: str) -> None:
    with pytest.raises(CorruptArtifact, match=names):
        parse_json(json.dumps(value).encode(), "index.json", Index)


def test_a_value_of_the_shape_keeps_its_other_keys() -> None:
    value = {"splits": {"train": {"n_tokens": 7, "more": math.pi}}, "more": None}
    assert parse_json(json.dumps(value).encode(), "index.json", Index) == value


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "../a", "/a", "a//b", "", "a/./b", "a\\b"])
def test_a_name_that_no_file_of_a_folder_has(name: str, tmp_path: Path) -> None:
    assert not is_plain_name(name)
    assert not is_file(tmp_path / name) or name == ""


def test_a_loop_of_links_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert not is_file(tmp_path / "a")
    assert is_plain_name("a")
    assert is_plain_name("a/b.json")
