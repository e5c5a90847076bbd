"""Mixtures: proportions exact to a row in every stage, pure in the row number, exact across changes of a run's length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parakit.common import UserError
from parakit.data.mixture import Mixture
from parakit.tokens.batches.mixture import MixedSource, limited_parts
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.shards import TokenShards

SEQ_LEN = 8


def shards(n_documents: int = 90) -> TokenShards:
    """Each token with an id of its own; documents of three sources in turn, of different lengths."""
    lengths = np.random.default_rng(0).integers(2, 30, n_documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenShards(np.arange(offsets[-1], dtype=np.uint32), offsets, pad_id=0)


SHARDS = shards()
SOURCE_OF = np.arange(SHARDS.n_documents) % 3


def mixed(lengths: list[tuple[int, int]], **settings: object) -> MixedSource:
    sources = [BatchSource(SHARDS, SEQ_LEN, 4, documents=i == SOURCE_OF) for i in range(3)]
    return MixedSource(sources, Mixture.parse({"names": ["a", "b", "c"]} | settings, "test"), lengths)


def sources_of_rows(source: MixedSource, start: int, n: int) -> np.ndarray:
    """Read off the tokens: of which source each row is."""
    batch = source.rows(start, n)
    document = np.searchsorted(SHARDS.offsets, batch.input_ids[:, 0], "right") - 1
    return SOURCE_OF[document]


def test_each_source_has_its_part_of_every_stage_to_within_a_row() -> None:
    stages = [
        {"until": 0.9, "weights": {"a": 3, "b": 1}},
        {"until": 1.0, "weights": {"b": 1, "c": 2}},
    ]
    rows = sources_of_rows(mixed([(0, 200)], curriculum=stages), 0, 200)
    assert np.bincount(rows[:180], minlength=3).tolist() == [135, 45, 0]
    assert np.bincount(rows[180:], minlength=3).tolist() in ([0, 7, 13], [0, 6, 14])
    for start in range(0, 160, 20):  # within a stage too, to within a row of each of the others
        assert abs(int((rows[start : start + 20] == 0).sum()) - 15) <= 2


def test_weights_default_to_the_amount_of_text_and_zero_leaves_out() -> None:
    whole = mixed([(0, 500)])
    sizes = np.array([source.n_pairs_per_epoch for source in whole.sources])
    assert whole.counts(500) == pytest.approx((500 * sizes / sizes.sum()).tolist(), abs=1)
    assert mixed([(0, 60)], weights=[1, 0, 1]).counts(60) == [30, 0, 30]


def test_rows_are_a_pure_function_of_their_number() -> None:
    source = mixed([(0, 100)], weights=[5, 3, 1])
    whole = source.rows(0, 130)  # also behind the end of the run
    for start, n in ((0, 7), (63, 30), (99, 31), (17, 1)):
        part = mixed([(0, 100)], weights=[5, 3, 1]).rows(start, n)
        for name in ("input_ids", "target_ids", "loss_mask", "document_ids", "position_ids"):
            assert (getattr(part, name) == getattr(whole, name)[start : start + n]).all()
        assert part.n_counted == int(part.loss_mask.sum())


def test_a_source_is_read_whole_before_it_repeats() -> None:
    source = mixed([(0, 400)], weights=[1, 1, 1])
    of, inner = source.places(0, 400)
    for number in range(3):
        assert (inner[of == number] == np.arange((of == number).sum())).all()


def test_max_repeats_gives_the_rest_to_the_others_and_refuses_a_run_that_is_too_long() -> None:
    source = mixed([(0, 300)], weights=[8, 1, 1], max_repeats=[1, None, None])
    rows = int(source.sources[0].rows_per_epoch)
    counts = source.counts(300)
    assert counts[0] == rows < 240
    assert abs(counts[1] - counts[2]) <= 1
    assert sum(counts) == 300
    with pytest.raises(UserError, match="reach max_repeats"):
        mixed([(0, 3000)], max_repeats=[1, 1, 1])
    assert limited_parts([1, 1], 10, [3, 6]) is None
    assert limited_parts([1, 1], 9, [3, 6]) == [3, 6]


def test_a_run_that_changes_its_length_keeps_the_rows_that_it_has_read() -> None:
    stages = [{"until": 0.5, "weights": {"a": 3, "b": 1}}, {"until": 1, "weights": {"c": 1}}]
    first = mixed([(0, 100)], curriculum=stages)
    longer, shorter = (
        mixed([(0, 100), (30, 160)], curriculum=stages),
        mixed([(0, 100), (60, 70)], curriculum=stages),
    )
    assert (longer.rows(0, 30).input_ids == first.rows(0, 30).input_ids).all()
    assert (shorter.rows(0, 60).input_ids == first.rows(0, 60).input_ids).all()
    assert set(sources_of_rows(longer, 80, 80)) == {2}
    assert 2 not in sources_of_rows(longer, 0, 80)
    assert set(sources_of_rows(shorter, 50, 20)) == {2}
    for source, total in ((longer, 160), (shorter, 70)):
        of, inner = source.places(0, total)
        for number in range(3):
            assert (inner[of == number] == np.arange((of == number).sum())).all()
    followed = mixed([(0, 100)], curriculum=stages)
    followed.rows(0, 30)
    followed.follow([(0, 100), (30, 160)])
    assert (followed.rows(30, 90).input_ids == longer.rows(30, 90).input_ids).all()


def test_documents_are_found_where_the_rows_read_them() -> None:
    source = mixed([(0, 150)], weights=[4, 2, 1])
    replayed = ReplaySource(
        source, BatchSource(replace(SHARDS, token_ids=SHARDS.token_ids + 9999), SEQ_LEN, 1), 0.25
    )
    for rows in (source, replayed):
        batch = rows.rows(0, 150)
        for document in range(0, 90, 7):
            low, high = SHARDS.offsets[document : document + 2]
            real = (batch.input_ids >= low) & (batch.input_ids < high) & (batch.document_ids >= 0)
            found = {
                (one.row, one.column + i) for one in rows.find(document, 150) for i in range(one.n_tokens)
            }
            assert found == set(zip(*(axis.tolist() for axis in np.nonzero(real)), strict=True))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"names": ["a", "a"]}, "two sources"),
        ({"names": ["a", "b"], "weights": [1]}, "give one to each"),
        ({"names": ["a", "b"], "weights": [0, 0]}, "all weights are 0"),
        ({"names": ["a"], "curriculum": [{"until": 0.5, "weights": {"a": 1}}]}, "the last at 1"),
        ({"names": ["a"], "curriculum": [{"until": 1, "weights": {"x": 1}}]}, "no source is called 'x'"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(UserError, match=match):
        Mixture.parse(settings, "test")
