"""Batches of examples: exact epochs, like lengths together, any slicing, any restart, nothing counted twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.tokens.batches.length_groups import LengthGroups
from parakit.tokens.examples.shards import EncodedTexts, ExampleShards
from parakit.tokens.examples.sources import LabelledSource, PairSource
from parakit.tokens.examples.text_pairs import TextPairSource
from parakit.tokens.tokenizer.special_tokens_template import SpecialTokensTemplate

PAD, CLS, SEP, EOS, START = 0, 1, 2, 3, 4
SINGLE = SpecialTokensTemplate(((CLS,), (SEP,)), ((0,), (0,)), (0,))
PAIR = SpecialTokensTemplate(((CLS,), (SEP,), (SEP,)), ((0,), (0,), (1,)), (0, 1))
CLOSED = SpecialTokensTemplate(((), (EOS,)), ((), (0,)), (0,))
LENGTHS = st.lists(st.integers(0, 20), min_size=1, max_size=40)


def texts_of(lengths: list[int], seed: int = 0) -> EncodedTexts:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return EncodedTexts(np.random.default_rng(seed).integers(10, 90, offsets[-1]).astype(np.uint16), offsets)


def shards_of(
    task: str, lengths: list[int], template: SpecialTokensTemplate = SINGLE, **texts: EncodedTexts
) -> ExampleShards:
    """Examples with texts of these lengths, every second one backwards."""
    keys = {"translate": ("source", "target"), "embed": ("text", "positive"), "tag": ("words",)}
    for k, key in enumerate(keys.get(task, ("text",))):
        texts.setdefault(key, texts_of(lengths[::-1] if k else lengths, k))
    answers: dict[str, np.ndarray] = {
        "classify": np.arange(len(lengths), dtype=np.int64) % 3,
        "regress": np.arange(len(lengths), dtype=np.float32) / 2,
        "tag": np.arange(sum(lengths), dtype=np.int64) % 4 - 1,
    }
    return ExampleShards(task, texts, answers.get(task), ("a", "b", "c"), (template, PAIR), 100, PAD, EOS)


def pair_source(lengths: list[int], **options: object) -> PairSource:
    limits = {"max_source_len": 64, "max_target_len": 64} | options
    return PairSource(shards_of("translate", lengths, CLOSED), seed=5, decoder_start_id=START, **limits)  # type: ignore[arg-type]


SOURCES: dict[str, Callable[[list[int], int], LabelledSource | TextPairSource | PairSource]] = {
    "classify": lambda lengths, n: LabelledSource(shards_of("classify", lengths), 64, 5, n_rows_hint=n),
    "tag": lambda lengths, n: LabelledSource(shards_of("tag", lengths), 64, 5, n_rows_hint=n),
    "embed": lambda lengths, n: TextPairSource(shards_of("embed", lengths), 64, 5, n_rows_hint=n),
    "translate": lambda lengths, n: pair_source(lengths, n_rows_hint=n),
}


@given(
    n=st.integers(1, 60),
    n_hint=st.integers(1, 16),
    pool=st.integers(1, 4),
    seed=st.integers(0, 5),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
)
def test_each_example_comes_once_an_epoch_however_rows_are_asked_for(
    n: int, n_hint: int, pool: int, seed: int, cuts: list[int]
) -> None:
    lengths = np.random.default_rng(n).integers(1, 50, n)
    groups = LengthGroups(lengths, seed, n_hint, pool)
    for epoch in range(3):
        assert sorted(groups.examples(epoch * n, n).tolist()) == list(range(n))
    whole = groups.examples(7, sum(cuts))
    again, start, parts = LengthGroups(lengths, seed, n_hint, pool), 7, []
    for cut in cuts:
        parts += again.examples(start, cut).tolist()
        start += cut
    assert whole.tolist() == parts


def test_a_steps_rows_have_like_lengths_and_steps_alternate() -> None:
    lengths = np.random.default_rng(0).geometric(0.05, 4_321)
    n_rows = 32
    groups = LengthGroups(lengths, 0, n_rows)
    taken = [lengths[groups.examples(step * n_rows, n_rows)] for step in range(3 * 4_321 // n_rows)]
    share = 1 - sum(rows.sum() for rows in taken) / sum(len(rows) * rows.max() for rows in taken)
    shuffled = (
        np.random.default_rng(0).permutation(lengths)[: len(lengths) // n_rows * n_rows].reshape(-1, n_rows)
    )
    by_chance = 1 - shuffled.mean() / shuffled.max(1).mean()
    assert by_chance > 0.6
    assert share < by_chance / 5
    n_sorted = sum((np.diff(rows) >= 0).all() for rows in taken)
    assert (
        n_sorted >= len(taken) - 4
    )  # all but the steps at the epochs' edges: micro-batches are parts of these
    means = np.array([rows.mean() for rows in taken])
    assert (
        abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2
    )  # a step's length says nothing of the next one's


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    lengths = np.repeat([3, 5], 40)
    orders = [LengthGroups(lengths, seed, 8).examples(epoch * 80, 80) for seed in (0, 1) for epoch in (0, 1)]
    assert len({order.tobytes() for order in orders}) == 4


@pytest.mark.parametrize("task", SOURCES)
@given(lengths=LENGTHS, n_hint=st.integers(1, 9), first=st.integers(0, 60), n=st.integers(2, 12))
def test_batches_are_a_pure_function_of_their_rows(
    task: str, lengths: list[int], n_hint: int, first: int, n: int
) -> None:
    batch = SOURCES[task](lengths, n_hint).rows(first, n)
    parts = [SOURCES[task](lengths, n_hint).rows(row, 1) for row in range(first, first + n)]
    assert batch.n_counted == sum(part.n_counted for part in parts)
    for field in fields(batch):
        values = getattr(batch, field.name)
        if not isinstance(values, np.ndarray):
            continue
        for row, part in enumerate(parts):
            alone = getattr(part, field.name)[0]
            width = alone.shape[0] if alone.ndim else None
            assert np.array_equal(values[row, :width] if width else values[row], alone), field.name
            assert not (values[row, width:].any() if width else False)  # PAD is 0, and nothing more is True


@given(lengths=LENGTHS, limit=st.integers(2, 24))
def test_targets_end_and_begin_as_they_should(lengths: list[int], limit: int) -> None:
    source = pair_source(lengths, max_target_len=limit)
    shards = source.shards
    n_cut = 0
    for i in range(shards.n_examples):
        batch = source.batch_of([i])
        text, target = shards.texts["target"][i].tolist(), batch.target_ids[0].tolist()
        assert target == [*text, EOS][:limit]  # a target that was cut does not end
        assert batch.input_ids[0].tolist() == [START, *target[:-1]]
        assert batch.source_ids[0].tolist() == [*shards.texts["source"][i].tolist(), EOS]
        assert batch.loss_mask.all()
        assert batch.n_counted == len(target)
        n_cut += len(text) + 1 > limit
    assert source.long_rows.n_long == n_cut


def test_a_source_that_is_cut_keeps_its_frame() -> None:
    source = pair_source([9, 2, 5], max_source_len=5)
    batch = source.batch_of([0, 1, 2])
    assert batch.source_ids.shape == (3, 5)
    assert batch.source_ids[0, -1] == EOS
    assert batch.source_ids[0, :4].tolist() == source.shards.texts["source"][0][:4].tolist()
    assert source.long_rows.n_long == 2


def test_a_frame_without_eos_gets_one_in_the_target() -> None:
    shards = shards_of("translate", [3], SINGLE)
    batch = PairSource(shards, 16, 16, 0, START).batch_of([0])
    assert batch.source_ids[0].tolist() == [CLS, *shards.texts["source"][0].tolist(), SEP]
    assert batch.target_ids[0].tolist() == [CLS, *shards.texts["target"][0].tolist(), SEP, EOS]


@given(lengths=LENGTHS, n_rows=st.integers(1, 12))
def test_once_meets_every_example_once_in_a_fixed_order(lengths: list[int], n_rows: int) -> None:
    for task, make in SOURCES.items():
        met, widths = [], []
        for numbers, batch in make(lengths, 4).one_pass(n_rows):
            met += numbers.tolist()
            again = make(lengths, 7).batch_of(numbers)
            for field in fields(batch):
                assert np.array_equal(getattr(batch, field.name), getattr(again, field.name))
            widths.append(next(iter(vars(batch).values())).shape[1])
        everything = list(range(len(lengths)))
        tags = np.split(np.arange(sum(lengths)) % 4 - 1, np.cumsum(lengths)[:-1])
        tagged = [i for i in everything if (tags[i] >= 0).any()] or everything  # the others teach no tag
        assert sorted(met) == (tagged if task == "tag" else everything)
        if task == "classify":
            assert widths == sorted(widths, reverse=True)


def test_labels_scores_and_tags_stand_where_they_belong() -> None:
    classes = LabelledSource(shards_of("classify", [3, 1, 2]), 8, 0).batch_of([2, 0])
    assert classes.labels.tolist() == [2, 0]
    assert classes.labels.dtype == np.int64
    assert (classes.loss_mask, classes.token_type_ids, classes.n_counted) == (None, None, 2)
    scores = LabelledSource(shards_of("regress", [3, 1, 2]), 8, 0).batch_of([1])
    assert scores.labels.dtype == np.float32
    assert scores.labels.tolist() == [0.5]
    source = LabelledSource(shards_of("tag", [3, 1, 2]), 4, 0)  # room for two tokens in the template
    tags = source.batch_of([0, 1, 2])
    assert tags.loss_mask is not None
    assert np.argwhere(tags.loss_mask).tolist() == [[0, 2], [1, 1], [2, 2]]
    assert tags.labels[tags.loss_mask].tolist() == [0, 2, 0]
    assert tags.n_counted == 3
    assert source.long_rows.n_long == 1


@pytest.mark.parametrize("task", SOURCES)
def test_texts_that_are_too_long_can_be_refused(task: str) -> None:
    shards = shards_of(task, [3, 20, 20, 3], CLOSED if task == "translate" else SINGLE)
    make: dict[str, Callable[[], object]] = {
        "translate": lambda: PairSource(shards, 10, 64, 0, START, too_long="refuse"),
        "embed": lambda: TextPairSource(shards, 10, 0, too_long="refuse"),
    }
    refused = make.get(task, lambda: LabelledSource(shards, 10, 0, too_long="refuse"))
    with pytest.raises(UserError, match=r"2 of 4 examples have over 10 tokens.*the first is row 2"):
        refused()


def test_limits_without_room_and_wrong_tasks_are_refused() -> None:
    with pytest.raises(UserError, match="max_seq_len 2 leaves no tokens for text besides 2 special tokens"):
        LabelledSource(shards_of("classify", [3]), 2, 0)
    with pytest.raises(UserError, match="max_target_len 1 leaves no tokens"):
        pair_source([3], max_target_len=1)
    with pytest.raises(UserError, match="examples of classify, not of translate"):
        PairSource(shards_of("classify", [3]), 8, 8, 0, START)
