"""Rows over the limit are cut, left out or refused, and counted; a row without a counted token is never trained on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.alignment.config import AlignConfig
from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.compression.config import DistillConfig
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.tokens import BatchSource, TokenShards
from parakit.tokens.batches.batch import Batch
from parakit.tokens.config import LongRowRule

RULES: tuple[LongRowRule, ...] = ("truncate", "drop", "refuse")
# Of each conversation: how many tokens come before its answer, how many the answer has, how many come after it.
TALKS = st.lists(
    st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 6)), min_size=1, max_size=12
)


def shards_of(talks: list[tuple[int, int, int]]) -> TokenShards:
    """Token i of the split is i + 1; the middle part of each conversation counts."""
    lengths = [sum(parts) for parts in talks]
    mask = [counts for before, answer, after in talks for counts in [0] * before + [1] * answer + [0] * after]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(1, offsets[-1] + 1, dtype=np.uint32)
    return TokenShards(ids, offsets, np.array(mask, np.uint8), pad_id=0)


def whole_epoch(source: BatchSource) -> Batch:
    return source.rows(0, int(source.rows_per_epoch))


@given(talks=TALKS, seq_len=st.integers(2, 24), rule=st.sampled_from(RULES))
def test_every_row_that_stays_teaches_and_every_other_is_counted(
    talks: list[tuple[int, int, int]], seq_len: int, rule: LongRowRule
) -> None:
    shards = shards_of(talks)
    long = [sum(parts) - 1 > seq_len for parts in talks]
    teaches = [answer > 0 for _, answer, _ in talks]
    left = [min(answer, max(0, seq_len + 1 - before)) for before, answer, _ in talks]
    stays = [n > 0 and not (is_long and rule == "drop") for n, is_long in zip(left, long, strict=True)]
    if not any(teaches) or (rule == "refuse" and any(long)) or not any(stays):
        if not any(teaches) and not (rule == "refuse" and any(long)):
            return  # nothing counts anywhere: the doctor's matter
        with pytest.raises(UserError):
            BatchSource(shards, seq_len, 0, "pack", rule)
        return
    source = BatchSource(shards, seq_len, 0, "pack", rule)
    report = source.long_rows
    assert report is not None
    assert (report.n_rows, report.n_long) == (len(talks), sum(long))
    assert report.n_left_out == len(talks) - sum(stays)
    assert report.n_uncounted == teaches.count(False)
    assert report.n_answers_cut == sum(
        s and n < answer for s, n, (_, answer, _) in zip(stays, left, talks, strict=True)
    )
    assert report.n_cut == sum(s and one for s, one in zip(stays, long, strict=True))
    batch = whole_epoch(source)
    assert batch.n_counted == sum(n for s, n in zip(stays, left, strict=True) if s)
    starts = set(batch.input_ids[(batch.document_ids >= 0) & (batch.position_ids == 0)].tolist())
    assert starts == {int(shards.offsets[i]) + 1 for i, s in enumerate(stays) if s}


@given(talks=TALKS, seq_len=st.integers(2, 12), rule=st.sampled_from(RULES))
def test_what_an_error_says_to_set_helps(
    talks: list[tuple[int, int, int]], seq_len: int, rule: LongRowRule
) -> None:
    shards = shards_of(talks)
    try:
        BatchSource(shards, seq_len, 0, "pack", rule)
    except UserError as error:
        if "no token to predict" in error.message:
            return
        words = error.hint.replace(",", "").split()
        if "seq_len" in words:
            BatchSource(shards, int(words[words.index("seq_len") + 1]), 0, "pack", rule)
        if "set too_long: truncate" in error.hint and "or drop" not in error.hint:
            BatchSource(shards, seq_len, 0, "pack", "truncate")


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
