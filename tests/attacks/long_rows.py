"""Conversations of random lengths in rows of random lengths: what stays, what is cut and what is counted, against a count by
hand; and whether what each refusal says to set helps.

    python -m tests.attacks.long_rows --n 20000
"""

from __future__ import annotations

import argparse
import random
from collections import Counter

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens import BatchSource, TokenShards
from parakit.tokens.config import LongRowRule
from tests.advice import ways_out

RULES: tuple[LongRowRule, ...] = ("truncate", "drop", "refuse")
SETTINGS = ("seq_len", "too_long")
Talk = tuple[int, int, int]
"""Of a conversation: how many tokens come before its answer, how many the answer has, how many come after it."""


def shards_of(talks: list[Talk]) -> TokenShards:
    """Token i of the split is i + 1; the middle part of each conversation counts."""
    lengths = [sum(parts) for parts in talks]
    mask = [counts for before, answer, after in talks for counts in [0] * before + [1] * answer + [0] * after]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(1, offsets[-1] + 1, dtype=np.uint32)
    return TokenShards(ids, offsets, np.array(mask, np.uint8), pad_id=0)


def outcome(talks: list[Talk], seq_len: int, rule: LongRowRule) -> str:
    """What happens to one set; `AssertionError` where it is not what a count by hand says, or where advice does not help."""
    shards = shards_of(talks)
    long = [sum(parts) - 1 > seq_len for parts in talks]
    left = [min(answer, max(0, seq_len + 1 - before)) for before, answer, _ in talks]
    stays = [n > 0 and not (is_long and rule == "drop") for n, is_long in zip(left, long, strict=True)]
    teaches = [answer > 0 for _, answer, _ in talks]
    refused = rule == "refuse" and any(long)
    source = _made(shards, seq_len, rule)
    if isinstance(source, UserError):
        assert refused or not any(stays), f"{talks}, rows of {seq_len}, {rule}: {source}"
        return _advice(shards, seq_len, rule, source)
    if not any(teaches):
        return "nothing counts anywhere: left to the doctor"
    assert not refused
    assert any(stays)
    report, batch = source.long_rows, source.rows(0, int(source.rows_per_epoch))
    assert report is not None
    assert (report.n_rows, report.n_long) == (len(talks), sum(long))
    assert report.n_left_out == len(talks) - sum(stays)
    assert report.n_uncounted == teaches.count(False)
    cut = [s and n < answer for s, n, (_, answer, _) in zip(stays, left, talks, strict=True)]
    assert report.n_answers_cut == sum(cut)
    assert report.n_cut == sum(s and one for s, one in zip(stays, long, strict=True))
    assert batch.n_counted == sum(n for s, n in zip(stays, left, strict=True) if s)
    starts = set(batch.input_ids[(batch.document_ids >= 0) & (batch.position_ids == 0)].tolist())
    assert starts == {int(shards.offsets[i]) + 1 for i, s in enumerate(stays) if s}
    return "cut or left out, and counted" if report.lines() else "every row fits"


def _made(shards: TokenShards, seq_len: int, rule: LongRowRule) -> BatchSource | UserError:
    try:
        return BatchSource(shards, seq_len, 0, "pack", rule, window=64)
    except UserError as error:
        return error


def _advice(shards: TokenShards, seq_len: int, rule: LongRowRule, error: UserError) -> str:
    """Apply each way out; a row that is cut or left out instead of refused may have nothing to learn in it."""
    ways = ways_out(error.hint, SETTINGS)
    for way in ways:
        again = _made(shards, way.get("seq_len", seq_len), way.get("too_long", rule))
        if isinstance(again, UserError):
            assert rule == "refuse", f"{error}\n{way} does not help: {again}"
            assert "learned from" in again.message or "no token to predict" in again.message
    return "refused, with a setting that helps" if ways else "refused: no setting can help"


def random_set(rng: random.Random) -> tuple[list[Talk], int, LongRowRule]:
    """One to twelve conversations, a length of rows, a rule."""
    talks = [(rng.randint(1, 20), rng.randint(0, 20), rng.randint(0, 6)) for _ in range(rng.randint(1, 12))]
    return talks, rng.randint(2, 24), rng.choice(RULES)


def main() -> None:
    """Try `--n` sets and print how many of each outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    counts = Counter(outcome(*random_set(rng)) for _ in range(options.n))
    print(f"{options.n:,} sets, 0 rows lost without being counted: {dict(counts)}")


if __name__ == "__main__":
    main()
