"""Preferences from files: every documented shape, what is refused, what is left out and counted, the splits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.common.files import read_json
from parakit.data.conversations.conversation import Message
from parakit.data.preferences import Ranking, iter_preferences, prepare_preferences, read_preferences
from parakit.data.preferences.formats import parse_ranking
from parakit.data.row_report import RowReport, UninformativeExample
from parakit.primer.config import PrimerConfig
from parakit.primer.sources import primer_preferences

ASKED = (Message("user", "Hi"),)
HI: dict[str, str] = {"role": "user", "content": "Hi"}


def says(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


PAIR = Ranking(ASKED, ("Hello!", "What?"))
SHAPES: dict[str, tuple[dict[str, Any], Ranking]] = {
    "text": ({"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}, PAIR),
    "messages": ({"messages": [HI], "chosen": "Hello!", "rejected": "What?", "id": 7}, PAIR),
    "one message each": ({"prompt": [HI], "chosen": [says("Hello!")], "rejected": [says("What?")]}, PAIR),
    "prompt repeated": (
        {"prompt": [HI], "chosen": [HI, says("Hello!")], "rejected": [HI, says("What?")]},
        PAIR,
    ),
    "implicit prompt": ({"chosen": [HI, says("Hello!")], "rejected": [HI, says("What?")]}, PAIR),
    "transcript": (
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: What?"},
        PAIR,
    ),
    "opened transcript": (
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "Hello!", "rejected": "What?"},
        PAIR,
    ),
    "Alpaca": (
        {"instruction": "Greet", "input": "Ann", "output": "Hi", "chosen": "Hello!", "rejected": "What?"},
        Ranking((Message("user", "Greet\n\nAnn"),), ("Hello!", "What?")),
    ),
    "margin": (
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?", "margin": 2},
        Ranking(ASKED, ("Hello!", "What?"), margin=2.0),
    ),
    "ranking": ({"prompt": "Hi", "ranking": ["a", "b", "c"]}, Ranking(ASKED, ("a", "b", "c"))),
    "ranks": (
        {"prompt": "Hi", "completions": ["b", "c", "a"], "ranks": [2, 3, 1]},
        Ranking(ASKED, ("a", "b", "c")),
    ),
    "rewards": (
        {"prompt": "Hi", "completions": ["b", "a", "tied", "c"], "rewards": [0.5, 1, 0.5, -2]},
        Ranking(ASKED, ("a", "b", "c"), (1.0, 0.5, -2.0)),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_ranking_and_is_read_again_from_its_own_row(shape: str) -> None:
    row, wanted = SHAPES[shape]
    found = parse_ranking(row, "row 1")
    assert found == wanted
    assert parse_ranking(json.loads(found.to_line()), "row 1") == found


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([1], "a list, not an object"),
        ({"prompt": "Hi", "chosen": "a"}, "no 'rejected'; its keys are 'prompt', 'chosen'"),
        ({"completions": ["a", "b"], "rewards": [1, 2]}, "no 'prompt'"),
        ({"prompt": "Hi", "completions": ["a", "b"]}, "no 'rewards'"),
        ({"prompt": "Hi", "chosen": 3, "rejected": "b"}, "'chosen' is int"),
        ({"chosen": "a", "rejected": "b"}, "'chosen' is not a conversation"),
        ({"prompt": [{"role": "usr", "content": "x"}], "chosen": "a", "rejected": "b"}, "unknown role 'usr'"),
        ({"prompt": "Hi", "completions": ["a", "b"], "rewards": [1, float("nan")]}, "rewards[1]"),
        ({"prompt": "Hi", "completions": ["a", "b"], "rewards": [1]}, "not a list of 2 numbers"),
        ({"prompt": "Hi", "ranking": ["a"]}, "two answers or more"),
        ({"prompt": "Hi", "ranking": ["a", "b"], "rewards": [1, 2]}, "do not fall"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "the prompt is empty"),
        ({"prompt": [{"role": "system", "content": "x"}], "chosen": "a", "rejected": "b"}, "has no question"),
        ({"prompt": "Hi", "chosen": "\ud800", "rejected": "b"}, "surrogate"),
        ({"prompt": "Hi", "chosen": [says("a") | {"name": "x"}], "rejected": "b"}, "the answer has 'name'"),
        ({"prompt": "Hi", "chosen": "a", "rejected": [says("b") | {"weight": 0}]}, "the answer has 'weight'"),
        (
            {"prompt": "Hi", "chosen": [says("a") | {"reasoning_content": "x"}], "rejected": "b"},
            "the answer has 'reasoning_content'",
        ),
    ],
)
def test_a_row_of_no_shape_is_refused_with_its_place(row: Any, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_ranking(row, "pairs.jsonl, row 3")
    assert str(caught.value).startswith("pairs.jsonl, row 3")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi", "chosen": "a ", "rejected": "a"}, "the answers are the same"),
        ({"prompt": "Hi", "chosen": "a", "rejected": " \n"}, "an answer is empty"),
        (
            {"prompt": [HI, says("x")], "chosen": "a", "rejected": "b"},
            "the prompt ends with an assistant's turn",
        ),
        (
            {"chosen": [HI, says("a"), HI], "rejected": [HI, says("b"), HI]},
            "the conversation ends without an answer",
        ),
        (
            {"chosen": [HI, says("a")], "rejected": [says("b")]},
            "chosen and rejected answer different prompts",
        ),
        ({"prompt": "Hi", "completions": ["a", "b"], "rewards": [1, 1]}, "no answer is better than another"),
    ],
)
def test_a_row_without_a_preference_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UninformativeExample) as caught:
        parse_ranking(row, "row 1")
    assert caught.value.reason == reason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content"]), inner),
    max_leaves=6,
)
_KEYS = ["prompt", "messages", "chosen", "rejected", "ranking", "completions", "rewards", "ranks", "margin"]


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from([*_KEYS, "instruction", "input"]), _JSON))
def test_whatever_a_row_holds_it_is_a_ranking_or_refused_by_name(row: dict[str, Any]) -> None:
    try:
        found = parse_ranking(row, "row 1")
    except (UserError, UninformativeExample):
        return
    assert len(set(found.completions)) == len(found.completions) >= 2
    assert all(answer.strip() for answer in found.completions)


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _array(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows, indent=1))
    return path


def _gzipped(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def _parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [("p.jsonl", _jsonl), ("p.json", _array), ("p.jsonl.gz", _gzipped), ("p.parquet", _parquet)],
)
def test_formats_agree_and_errors_name_the_row(
    name: str, write: Callable[[Path, list[dict[str, Any]]], Path], tmp_path: Path
) -> None:
    rows = [
        {"prompt": [HI], "chosen": [says(f"yes {i}")], "rejected": [says("no" if i != 2 else f"yes {i}")]}
        for i in range(4)
    ]
    skipped_rows = RowReport()
    found = list(read_preferences(write(tmp_path / name, rows), skipped_rows))
    assert [where for where, _ in found] == [f"{name}, row {n}" for n in (1, 2, 4)]
    assert skipped_rows.locations == {"the answers are the same": [f"{name}, row 3"]}
    broken = write(tmp_path / f"b{name}", [*rows, {"prompt": [HI], "chosen": None, "rejected": [says("no")]}])
    with pytest.raises(UserError, match=f"b{name}, row 5"):
        list(read_preferences(broken, RowReport()))


def test_one_prompt_is_never_on_both_sides(tmp_path: Path) -> None:
    rows = [{"prompt": f"ask {i % 40}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(120)]
    folder = prepare_preferences(
        [str(_jsonl(tmp_path / "p.jsonl", rows + rows[:5]))],
        tmp_path / "out",
        validation_fraction=0.2,
        test_fraction=0.2,
    )
    prompts = {
        split: {ranking.prompt for ranking in iter_preferences(folder, split)}
        for split in ("train", "validation", "test")
    }
    assert sum(len(one) for one in prompts.values()) == len(set().union(*prompts.values())) == 40
    report = read_json(folder / "report.json")
    assert report["duplicates"] == 5
    assert sum(report["splits"].values()) == 120


def test_a_file_in_which_nothing_can_be_learned_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "p.jsonl", [{"prompt": "Hi", "chosen": "a", "rejected": "a"}])
    with pytest.raises(UserError, match="1 left out: the answers are the same"):
        prepare_preferences([str(path)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_primers_held_out_preferences_are_the_test_split(tmp_path: Path) -> None:
    config = PrimerConfig(n_examples=120, n_test_examples=40)
    folder = prepare_preferences(primer_preferences(config), tmp_path / "out")
    test = {ranking.prompt for ranking in iter_preferences(folder, "test")}
    train = {
        ranking.prompt for split in ("train", "validation") for ranking in iter_preferences(folder, split)
    }
    assert not test & train
    assert read_json(folder / "report.json")["splits"]["test"] == 40


def test_public_sets_are_read(public_data: Callable[[str], Path]) -> None:
    skipped_rows = RowReport()
    path = public_data("hh_rlhf") / "test.jsonl.gz"
    assert sum(1 for _ in read_preferences(path, skipped_rows)) == 2303
    assert skipped_rows.counts == {
        "an answer is empty": 4,
        "chosen and rejected answer different prompts": 5,
    }
    path = public_data("llms_from_scratch_instruct") / "instruction-data-with-preference.json.gz"
    assert sum(1 for _ in read_preferences(path, RowReport())) == 1094


@pytest.mark.parametrize("n_rows", [6, 12, 30])
def test_a_small_set_widens_what_it_holds_out_and_says_so(tmp_path: Path, n_rows: int) -> None:
    """What a person ranked by hand is rarely more; it fills every split all the same."""
    rows = [{"prompt": f"Question {i}?", "ranking": [f"good {i}", f"bad {i}"]} for i in range(n_rows)]
    (tmp_path / "by-hand.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = prepare_preferences([str(tmp_path / "by-hand.jsonl")], tmp_path / "set", test_fraction=0.05)
    report = json.loads((path / "report.json").read_text())
    assert all(report["splits"].values())
    assert sum(report["splits"].values()) == n_rows
    assert 0.05 <= report["validation_fraction"] <= 0.4
    assert 0.05 <= report["test_fraction"] <= 0.4
