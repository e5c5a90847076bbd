"""Files of conversations in stated proportions: exact, drawn from the seed, told, and named errors for what is none."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.data.conversations.conversation import Conversation, Message, write_conversations
from parakit.data.conversations.sets import iter_conversations, prepare_conversations
from parakit.data.mixing import allocate, check_shares, repeats
from parakit.primer.config import PrimerConfig
from parakit.primer.sources import primer_conversations
from parakit.stages.data_config import ConversationsConfig

SHARES = st.lists(st.one_of(st.integers(0, 5).map(float), st.floats(0, 10)), min_size=1, max_size=6).filter(
    any
)


def write(folder: Path, **counts: int) -> list[str]:
    """A file for each name, of so many conversations that name it."""
    for name, n in counts.items():
        rows = (
            Conversation((Message("user", f"{name} {k}?"), Message("assistant", f"{name}: {k}.")))
            for k in range(n)
        )
        write_conversations(folder / f"{name}.jsonl", rows)
    return [str(folder / f"{name}.jsonl") for name in counts]


def mixed(paths: list[str], out: Path, shares: list[float], seed: int = 0) -> list[str]:
    """What the user asks in every conversation of the train split."""
    prepare_conversations(paths, out, validation_fraction=0.1, shares=shares, seed=seed, overwrite=True)
    return [conversation.messages[0].content for conversation in iter_conversations(out, "train")]


@given(SHARES, st.integers(0, 10_000))
def test_parts_add_up_and_are_exact_to_within_one(shares: list[float], total: int) -> None:
    parts = allocate(shares, total)
    assert sum(parts) == total
    whole = math.fsum(shares)
    for part, share in zip(parts, shares, strict=True):
        assert abs(part - total * share / whole) < 1 + 1e-6
        assert part == 0 or share > 0


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.data(), st.integers(0, 99))
def test_rows_of_a_source_are_taken_equally_often_to_within_one(sizes: list[int], data, seed: int) -> None:
    source_of = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = data.draw(st.lists(st.integers(0, 90), min_size=len(sizes), max_size=len(sizes)))
    times = repeats(source_of, parts, seed)
    for source, part in enumerate(parts):
        taken = times[source_of == source]
        assert taken.sum() == part
        assert taken.max() - taken.min() <= 1
    assert np.array_equal(times, repeats(source_of, parts, seed))


@pytest.mark.parametrize("shares", [[3, 1], [0.75, 0.25], [1, 1], [0.1, 0.9]])
def test_the_train_split_is_as_long_as_before_and_in_these_proportions(
    tmp_path: Path, shares: list[float]
) -> None:
    paths = write(tmp_path, a=200, b=60)
    plain, mixture = mixed(paths, tmp_path / "plain", []), mixed(paths, tmp_path / "mixed", shares)
    assert len(mixture) == len(plain)
    n_of = Counter(text[0] for text in mixture)
    assert [n_of["a"], n_of["b"]] == allocate(shares, len(plain))
    assert set(mixture) <= set(plain)
    times = Counter(mixture)
    for name in "ab":
        own = [times[text] for text in plain if text[0] == name]
        assert max(own) - min(own) <= 1
    held_out = [list(iter_conversations(tmp_path / name, "validation")) for name in ("plain", "mixed")]
    assert held_out[0] == held_out[1]


def test_the_seed_draws_which_ones_and_the_same_one_draws_the_same(tmp_path: Path) -> None:
    paths = write(tmp_path, a=100, b=30)
    one, again, other = (mixed(paths, tmp_path / "out", [1, 1], seed) for seed in (0, 0, 1))
    assert one == again
    assert sorted(one) != sorted(other)
    assert Counter(text[0] for text in one) == Counter(text[0] for text in other)


def test_statistics_and_lineage_tell_what_was_mixed(tmp_path: Path) -> None:
    paths = write(tmp_path, a=100, b=20)
    mixture = mixed(paths, tmp_path / "out", [1, 3], seed=7)
    report = json.loads((tmp_path / "out/report.json").read_text())
    n_of = Counter(text[0] for text in mixture)
    a, b = report["mixture"]
    assert (a["source"], b["source"]) == ("a.jsonl", "b.jsonl")
    assert (a["share"], b["share"]) == (0.25, 0.75)
    assert (a["taken"], b["taken"]) == (n_of["a"], n_of["b"])
    assert a["skipped_rows"] == a["conversations"] - a["taken"]
    assert b["skipped_rows"] == 0
    assert report["splits"]["train"] == len(mixture)
    lineage = open_artifact(tmp_path / "out").lineage
    assert lineage["config"]["shares"] == [1, 3]
    assert lineage["seed"] == 7
    assert lineage["result"] == report


def test_a_share_of_zero_leaves_a_source_out_and_counts_it(tmp_path: Path) -> None:
    paths = write(tmp_path, a=50, b=20)
    mixture = mixed(paths, tmp_path / "out", [1, 0])
    held_out = [c.messages[0].content for c in iter_conversations(tmp_path / "out", "validation")]
    assert {text[0] for text in [*mixture, *held_out]} == {"a"}
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["skipped_rows"] == {"its source has share 0": 20}


def test_what_several_files_have_is_the_first_ones_and_one_left_with_nothing_is_named(tmp_path: Path) -> None:
    paths = write(tmp_path, a=40)
    (tmp_path / "b.jsonl").write_text((tmp_path / "a.jsonl").read_text())
    with pytest.raises(UserError, match=r"b\.jsonl, and the train split has none of its conversations"):
        mixed([*paths, str(tmp_path / "b.jsonl")], tmp_path / "out", [1, 1])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ([1], "1 share for 2 sources"),
        ([1, 1, 1], "3 shares for 2 sources"),
        ([-1, 2], r"-1 for a\.jsonl"),
        ([math.nan, 1], r"nan"),
        ([1, math.inf], r"inf"),
        ([0, 0], "all of them are 0"),
    ],
)
def test_shares_that_are_none_are_named(tmp_path: Path, shares: list[float], told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_shares(shares, ["a.jsonl", "b.jsonl"])
    with pytest.raises(UserError, match=told) as refused:
        parsed(ConversationsConfig, {"paths": ["a.jsonl", "b.jsonl"], "shares": shares})
    assert "conversations" in str(refused.value)
    with pytest.raises(UserError):
        prepare_conversations(write(tmp_path, a=10, b=10), tmp_path / "out", shares=shares)
    assert not (tmp_path / "out").exists()


def test_the_primer_is_one_source_and_takes_no_shares(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 share for 0 sources"):
        prepare_conversations(
            primer_conversations(PrimerConfig(n_conversations=20)), tmp_path / "out", shares=[1]
        )


def parsed(kind: type[Config], mapping: dict) -> Config:
    return kind.parse(mapping, "conversations")
