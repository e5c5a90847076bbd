"""The mistakes of pairs, labels, scores and pairs of texts, put back one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parakit.tokens.batches.batch import Batch, LabelledBatch, PairBatch, TextPairBatch
from tests.contracts.task_cases import (
    CASE_TASKS,
    LABELS,
    PAIR_TASKS,
    changed,
    examples_plan,
    task_model,
)
from tests.contracts.training_cases import TrainingCase
from tests.short_suite import shortened

Healthy = Callable[..., TrainingCase]
LIKE_OTHERS = ("prefix_pairs", "multi_label", "answer")  # rows are those of other pairs, and of classify
DISTINCT_TASKS = tuple(task for task in CASE_TASKS if task not in LIKE_OTHERS)
ALL = shortened("task", DISTINCT_TASKS, ("prefix", "span_corruption", "classify", "embed"))
FRAMED = pytest.mark.parametrize(
    "task", [task for task in CASE_TASKS if task not in ("prefix", "multi_label", "answer")]
)  # not a decoder's rows
UNFIT, UNSCALED = pytest.mark.catches("scores-unfit"), pytest.mark.catches("scores-unscaled")
PAIRS = pytest.mark.parametrize("task", ["span_corruption", "translate"])


# ---- rows of any task


@pytest.mark.catches("ids-outside-vocabulary")
@FRAMED
def test_an_id_that_the_embedding_has_no_row_for(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    name = {"embed": "first_ids"}.get(task, "source_ids" if task in PAIR_TASKS else "input_ids")

    broken = changed(case, lambda batch: {name: getattr(batch, name) + 200})
    assert broken.first_failure() == "ids-outside-vocabulary"


@pytest.mark.catches("head-differs")
@FRAMED
def test_a_model_with_another_head(task: str, healthy_task: Healthy) -> None:
    other = "classify" if task != "classify" else "masked"
    case = healthy_task(task)
    other_model = task_model(other, case.model.config.vocab_size)
    assert case.replace(model=other_model).first_failure() == "head-differs"


@pytest.mark.catches("rows-too-long")
@FRAMED
def test_rows_longer_than_the_window(task: str, healthy_task: Healthy) -> None:
    assert healthy_task(task, max_seq_len=8).first_failure() == "rows-too-long"


@pytest.mark.catches("tokenizer-differs")
@ALL
def test_data_encoded_by_another_tokenizer(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    other = replace(case.shards, tokenizer_digest="0" * 64)
    assert case.replace(shards=other, source=case.source).first_failure() == "tokenizer-differs"


@pytest.mark.catches("all-masked")
@pytest.mark.parametrize(
    "task", [task for task in DISTINCT_TASKS if task not in ("classify", "regress", "embed")]
)
def test_nothing_counts(task: str, healthy_task: Healthy) -> None:
    broken = changed(healthy_task(task), lambda b: {"loss_mask": np.zeros_like(b.loss_mask), "n_counted": 0})
    assert broken.first_failure() == "all-masked"


@pytest.mark.catches("count-differs")
@ALL
def test_a_count_that_is_not_what_counts(task: str, healthy_task: Healthy) -> None:
    broken = changed(healthy_task(task), lambda b: {"n_counted": b.n_counted + 1})
    assert broken.first_failure() == "count-differs"


@pytest.mark.catches("rows-change")
@ALL
def test_rows_that_depend_on_earlier_reads(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)

    class Drifting:
        n_reads = 0
        rows_per_epoch = case.source.rows_per_epoch

        def rows(self, start_row: int, n_rows: int) -> Any:
            self.n_reads += 1
            return case.source.rows(start_row + self.n_reads, n_rows)

    assert "rows-change" in case.replace(source=Drifting()).failures()


@pytest.mark.catches("loss-on-padding")
@pytest.mark.parametrize("task", ["masked", "tag", "translate"])
def test_padding_that_counts(task: str, healthy_task: Healthy) -> None:
    def change(batch: Any) -> dict[str, Any]:
        if isinstance(batch, PairBatch):
            counted = np.ones_like(batch.loss_mask)
            ids = batch.document_ids
            return {"loss_mask": counted, "n_counted": counted.size, "document_ids": ids}
        padding = ~batch.attention_mask if isinstance(batch, LabelledBatch) else batch.document_ids < 0
        counted = batch.loss_mask | padding
        return {"loss_mask": counted, "n_counted": int(counted.sum())}

    assert "loss-on-padding" in changed(with_padding(healthy_task(task)), change).failures()


def with_padding(case: TrainingCase) -> TrainingCase:
    """Windows of text end in padding, as rows of "pack" packing do."""
    if case.task != "masked":
        return case

    def end(batch: Batch) -> dict[str, Any]:
        ids, mask = batch.document_ids.copy(), batch.loss_mask.copy()
        ids[:, -6:], mask[:, -6:] = -1, False
        return {"document_ids": ids, "loss_mask": mask, "n_counted": int(mask.sum())}

    healthy = changed(case, end)
    assert healthy.failures() == []
    return healthy


# ---- pairs


@pytest.mark.catches("targets-shift")
@PAIRS
def test_target_inputs_that_are_not_shifted(task: str, healthy_task: Healthy) -> None:
    broken = changed(healthy_task(task), lambda b: {"input_ids": b.target_ids.copy()})
    assert broken.first_failure() == "targets-shift"


@pytest.mark.catches("targets-shift")
@PAIRS
def test_target_inputs_that_are_shifted_twice(task: str, healthy_task: Healthy) -> None:
    broken = changed(healthy_task(task), lambda b: {"input_ids": np.roll(b.input_ids, 1, axis=1)})
    assert broken.first_failure() == "targets-shift"


@pytest.mark.catches("decoder-start")
@PAIRS
def test_targets_that_begin_with_another_id(task: str, healthy_task: Healthy) -> None:
    def change(batch: PairBatch) -> dict[str, Any]:
        return {"input_ids": np.where(batch.input_ids == 0, 5, batch.input_ids)}

    assert changed(healthy_task(task), change).first_failure() == "decoder-start"


@pytest.mark.catches("no-end-of-text")
@PAIRS
def test_an_end_that_never_counts(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)

    def uncounted(batch: PairBatch) -> dict[str, Any]:
        mask = batch.loss_mask & (batch.target_ids != case.tokenizer.eos_id)
        return {"loss_mask": mask, "n_counted": int(mask.sum())}

    assert changed(case, uncounted).first_failure() == "no-end-of-text"


@pytest.mark.catches("pad-is-eos")
@PAIRS
def test_padding_that_is_the_end(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    shards = replace(case.shards, pad_id=case.tokenizer.eos_id)
    assert case.replace(shards=shards, source=case.source).first_failure() == "pad-is-eos"


@pytest.mark.catches("source-empty")
@PAIRS
def test_targets_without_a_source(task: str, healthy_task: Healthy) -> None:
    def change(batch: PairBatch) -> dict[str, Any]:
        documents = batch.source_document_ids
        empty = {"source_mask": np.zeros_like(batch.source_mask)}
        return empty | ({} if documents is None else {"source_document_ids": np.full_like(documents, -1)})

    assert changed(healthy_task(task), change).first_failure() == "source-empty"


@pytest.mark.catches("source-is-target")
def test_a_source_that_is_its_target(healthy_task: Healthy) -> None:
    case = healthy_task("translate")

    def change(batch: PairBatch) -> dict[str, Any]:
        start = np.zeros((len(batch.source_ids), 1), np.int64)
        counted = batch.source_mask
        return {
            "target_ids": batch.source_ids,
            "input_ids": np.concatenate([start, batch.source_ids[:, :-1]], axis=1),
            "loss_mask": counted,
            "n_counted": int(counted.sum()),
        }

    assert changed(case, change).first_failure() == "source-is-target"


@pytest.mark.catches("sentinels-differ")
def test_sentinels_that_are_missing_or_in_another_order(healthy_task: Healthy) -> None:
    case = healthy_task("span_corruption")
    sentinels = np.array(case.tokenizer.sentinel_ids)

    def none(batch: PairBatch) -> dict[str, Any]:
        return {"source_ids": np.where(np.isin(batch.source_ids, sentinels), 300, batch.source_ids)}

    def reordered(batch: PairBatch) -> dict[str, Any]:
        places = np.isin(batch.source_ids, sentinels)
        other = sentinels[(np.searchsorted(sentinels, batch.source_ids) + 1) % len(sentinels)]
        return {"source_ids": np.where(places, other, batch.source_ids)}

    assert changed(case, none).first_failure() == "sentinels-differ"
    assert changed(case, reordered).first_failure() == "sentinels-differ"


# ---- labels and scores


def with_answers(case: TrainingCase, change: Callable[[np.ndarray], np.ndarray]) -> TrainingCase:
    return changed(case, lambda batch: {"labels": change(batch.labels)})


@pytest.mark.catches("label-out-of-range")
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_a_label_that_the_head_has_no_output_for(task: str, healthy_task: Healthy) -> None:
    broken = with_answers(healthy_task(task), lambda labels: np.where(labels == 2, 3, labels))
    assert broken.first_failure() == "label-out-of-range"
    [failure] = [result for result in broken.results() if not result.passed]
    assert "label 3 occurs" in failure.detail
    assert "3 labels, 0 to 2" in failure.detail
    assert with_answers(healthy_task(task), lambda labels: labels - 1).first_failure() == "label-out-of-range"


def test_a_label_out_of_range_is_named(healthy_task: Healthy) -> None:
    case = healthy_task("classify")
    two = task_model("classify", case.model.config.vocab_size)
    two.classes = two.classes.replace(labels=LABELS[:2])
    shards = replace(case.shards, labels=LABELS)
    broken = case.replace(model=two, shards=shards, source=case.source)
    assert broken.first_failure() == "labels-differ"
    quiet = case.replace(model=two, shards=replace(shards, labels=()), source=case.source)
    assert quiet.first_failure() == "label-out-of-range"


@pytest.mark.catches("labels-differ")
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_labels_in_another_order_than_the_heads(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    shards = replace(case.shards, labels=LABELS[::-1])
    broken = case.replace(shards=shards, source=case.source)
    assert broken.first_failure() == "labels-differ"
    [failure] = [result for result in broken.results() if not result.passed]
    assert "label 0 is 'quiet' in the head and 'between' in the data" in failure.detail


@pytest.mark.parametrize("task", ["classify", "tag"])
@pytest.mark.catches("label-never-seen", "only-one-label")
def test_labels_that_never_occur(task: str, healthy_task: Healthy) -> None:
    absent = with_answers(healthy_task(task), lambda labels: np.where(labels == 1, 0, labels))
    assert absent.first_failure() == "label-never-seen"
    alone = with_answers(healthy_task(task), np.zeros_like)
    assert {"label-never-seen", "only-one-label"} <= set(alone.failures())


@pytest.mark.parametrize(
    ("change", "first_failure"),
    [
        pytest.param(lambda scores: np.full_like(scores, 1.5), "scores-unfit", marks=UNFIT),
        pytest.param(
            lambda scores: np.where(scores > 1.5, np.nan, scores).astype(np.float32),
            "scores-unfit",
            marks=UNFIT,
        ),
        pytest.param(lambda scores: scores * 1000, "scores-unscaled", marks=UNSCALED),
    ],
)
def test_scores_that_cannot_be_learned(change: Any, first_failure: str, healthy_task: Healthy) -> None:
    assert with_answers(healthy_task("regress"), change).first_failure() == first_failure


@pytest.mark.catches("head-differs")
@pytest.mark.parametrize(
    ("task", "other"), [("classify", "tag"), ("tag", "classify"), ("regress", "classify")]
)
def test_a_head_for_another_task(task: str, other: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    other_model = task_model(other, case.model.config.vocab_size)
    assert case.replace(model=other_model).first_failure() == "head-differs"


# ---- pairs of texts


@pytest.mark.catches("no-negatives")
def test_pairs_without_negatives(healthy_task: Healthy) -> None:
    case = healthy_task("embed")
    assert case.replace(plan=examples_plan(micro_batch_size=1)).first_failure() == "no-negatives"


@pytest.mark.catches("texts-equal", "texts-empty")
def test_pairs_of_one_text_or_of_none(healthy_task: Healthy) -> None:
    def same(batch: TextPairBatch) -> dict[str, Any]:
        return {"second_ids": batch.first_ids, "second_mask": batch.first_mask}

    def empty(batch: TextPairBatch) -> dict[str, Any]:
        mask = batch.first_mask.copy()
        mask[0] = False
        return {"first_mask": mask}

    assert changed(healthy_task("embed"), same).first_failure() == "texts-equal"
    assert changed(healthy_task("embed"), empty).first_failure() == "texts-empty"


def test_every_failure_has_a_detail_and_a_remedy(healthy_task: Healthy) -> None:
    case = healthy_task("masked")
    broken = changed(case, lambda b: {"input_ids": b.target_ids.copy()})
    [failure] = [result for result in broken.results() if not result.passed]
    assert failure.detail.startswith("0 of ")
    assert failure.remedy
    assert failure.prevents
