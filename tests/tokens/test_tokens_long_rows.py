"""Rows over the limit are cut, left out or refused, and counted; a row without a counted token is never trained on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.alignment.config import AlignConfig
from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.compression.config import DistillConfig
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.tokens import BatchSource
from parakit.tokens.config import LongRowRule
from tests.attacks.long_rows import RULES, Talk, outcome, shards_of

TALKS = st.lists(
    st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 6)), min_size=1, max_size=12
)


@given(talks=TALKS, seq_len=st.integers(2, 24), rule=st.sampled_from(RULES))
def test_every_row_that_stays_teaches_and_every_other_is_counted(
    talks: list[Talk], seq_len: int, rule: LongRowRule
) -> None:
    """And what a refusal says to set helps."""
    outcome(talks, seq_len, rule)


def made(rule: LongRowRule = "truncate") -> BatchSource:
    """One that fits, one whose answer is cut, one that is cut after it, one without a place for it, one without one."""
    talks = [(2, 4, 1), (4, 20, 0), (4, 2, 20), (30, 4, 0), (5, 0, 0)]
    return BatchSource(shards_of(talks), 9, 0, "pack", rule, window=64)


def test_the_report_names_every_kind_of_loss_and_what_would_take_all() -> None:
    source = made()
    assert source.long_rows is not None
    assert source.long_rows.lines() == [
        "3 of 5 conversations have over 9 tokens: 1 answer cut, 1 cut after their last answer, 1 left out, of which no"
        " answer is left; seq_len 33 takes them whole; too_long: drop leaves them out",
        "1 conversation without a counted token left out",
    ]
    dropped = made("drop").long_rows
    assert dropped is not None
    assert "3 left out (too_long: drop)" in dropped.lines()[0]
    assert dropped.to_json() == {
        "rows": 5, "limit": 9, "too_long": 3, "answers_cut": 0, "cut": 0, "left_out": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("talks", "rule", "window", "message", "hint"),
    [
        (
            [(2, 9, 0), (2, 2, 0)],
            "refuse",
            64,
            "1 of 2 conversations have over 5 tokens, up to 10",
            "seq_len 10",
        ),
        (
            [(9, 9, 0)] * 2,
            "truncate",
            64,
            "none of 2 conversations can be learned from within 5",
            "seq_len 17",
        ),
        ([(9, 9, 0)] * 2, "truncate", 12, "the first of their answers needs 9", "set seq_len 12"),
        ([(9, 9, 0)] * 2, "truncate", 8, "the first of their answers needs 9", "shorten them"),
        ([(2, 9, 0)] * 2, "drop", 8, "all 2 conversations have over 5 tokens", "set too_long: truncate"),
    ],
)
def test_a_refusal_names_the_number_and_the_way_out(
    talks: list[tuple[int, int, int]], rule: LongRowRule, window: int, message: str, hint: str
) -> None:
    with pytest.raises(UserError) as caught:
        BatchSource(shards_of(talks), 5, 0, "pack", rule, window=window)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("group", "values", "default"),
    [
        *[
            (FinetuneConfig, {"task": task}, "truncate")
            for task in ("chat", "classify", "answer", "translate", "embed")
        ],
        (FinetuneConfig, {"method": "lora"}, "truncate"),
        *[(AlignConfig, {"method": method}, "truncate") for method in ("reward", "dpo", "constitution")],
        *[(AlignConfig, {"method": method}, "drop") for method in ("ppo", "grpo", "best_of_n")],
        (DistillConfig, {}, "truncate"),
    ],
)
def test_every_run_on_rows_has_the_setting(group: type[Config], values: dict[str, str], default: str) -> None:
    assert group.parse(values).too_long == default  # type: ignore[attr-defined]
    assert group.parse({**values, "too_long": "refuse"}).too_long == "refuse"  # type: ignore[attr-defined]


def test_text_is_cut_into_windows_and_has_no_such_setting() -> None:
    with pytest.raises(UserError, match="too_long"):
        PretrainConfig.parse({"too_long": "drop"})
