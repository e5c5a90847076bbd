"""The mistakes of hidden tokens, pairs, labels, scores and embeddings, put back one by one: rows and answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parakit.tokens.batches.batch import Batch, LabelledBatch, MaskedBatch, PairBatch, TextPairBatch
from tests.contracts.patients import Patient
from tests.contracts.task_patients import (
    LABELS,
    PAIR_KINDS,
    TASK_KINDS,
    as_kind,
    changed,
    examples_plan,
    task_model,
)

Healthy = Callable[..., Patient]
KINDS = tuple(kind for kind in TASK_KINDS if kind != "prefix pairs")  # which is as the other pairs are
ALL = pytest.mark.parametrize("kind", KINDS)
FRAMED = pytest.mark.parametrize(
    "kind", [kind for kind in TASK_KINDS if kind != "prefix"]
)  # not a decoder's rows
PAIRS = pytest.mark.parametrize("kind", ["span_corruption", "translate"])


# ---- rows of any kind


@FRAMED
def test_10_an_id_that_the_embedding_has_no_row_for(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    name = {"embed": "first_ids"}.get(kind, "source_ids" if kind in PAIR_KINDS else "input_ids")

    ill = changed(patient, lambda batch: {name: getattr(batch, name) + 200})
    assert ill.verdict() == "ids-outside-vocabulary"


@FRAMED
def test_a_model_of_another_kind(kind: str, healthy_task: Healthy) -> None:
    other = "classify" if kind != "classify" else "masked"
    patient = healthy_task(kind)
    stranger = task_model(other, patient.model.config.vocab_size)
    assert patient.but(model=stranger).verdict() == "head-differs"


@FRAMED
def test_3_rows_longer_than_the_window(kind: str, healthy_task: Healthy) -> None:
    assert healthy_task(kind, max_seq_len=8).verdict() == "rows-too-long"


@ALL
def test_8_data_encoded_by_another_tokenizer(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    other = replace(patient.shards, tokenizer_digest="0" * 64)
    assert patient.but(shards=other, source=patient.source).verdict() == "tokenizer-differs"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("classify", "regress", "embed")])
def test_2_nothing_counts(kind: str, healthy_task: Healthy) -> None:
    ill = changed(healthy_task(kind), lambda b: {"loss_mask": np.zeros_like(b.loss_mask), "n_counted": 0})
    assert ill.verdict() == "all-masked"


@ALL
def test_11_a_count_that_is_not_what_counts(kind: str, healthy_task: Healthy) -> None:
    ill = changed(healthy_task(kind), lambda b: {"n_counted": b.n_counted + 1})
    assert ill.verdict() == "count-differs"


@ALL
def test_24_rows_that_depend_on_who_asked_before(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)

    class Drifting:
        n_asked = 0
        rows_per_epoch = patient.source.rows_per_epoch

        def rows(self, start_row: int, n_rows: int) -> Any:
            self.n_asked += 1
            return patient.source.rows(start_row + self.n_asked, n_rows)

    assert "rows-change" in patient.but(source=Drifting()).faults()


@pytest.mark.parametrize("kind", ["masked", "tag", "translate"])
def test_1_padding_that_counts(kind: str, healthy_task: Healthy) -> None:
    def change(batch: Any) -> dict[str, Any]:
        if isinstance(batch, PairBatch):
            counted = np.ones_like(batch.loss_mask)
            ids = batch.document_ids
            return {"loss_mask": counted, "n_counted": counted.size, "document_ids": ids}
        padding = ~batch.attention_mask if isinstance(batch, LabelledBatch) else batch.document_ids < 0
        counted = batch.loss_mask | padding
        return {"loss_mask": counted, "n_counted": int(counted.sum())}

    assert "loss-on-padding" in changed(with_padding(healthy_task(kind)), change).faults()


def with_padding(patient: Patient) -> Patient:
    """Windows of text end in padding, as rows of "pack" packing do."""
    if patient.kind != "masked":
        return patient

    def end(batch: Batch) -> dict[str, Any]:
        ids, mask = batch.document_ids.copy(), batch.loss_mask.copy()
        ids[:, -6:], mask[:, -6:] = -1, False
        return {"document_ids": ids, "loss_mask": mask, "n_counted": int(mask.sum())}

    healthy = changed(patient, end)
    assert healthy.faults() == []
    return healthy


# ---- hidden tokens


def test_16_mask_never_shown(healthy_task: Healthy) -> None:
    ill = changed(healthy_task("masked"), lambda b: {"input_ids": b.target_ids.copy()})
    assert ill.verdict() == "mask-absent"


def test_16_another_token_shown_for_mask(healthy_task: Healthy) -> None:
    patient = healthy_task("masked")
    mask_id = patient.tokenizer.mask_id
    ill = changed(patient, lambda b: {"input_ids": np.where(b.input_ids == mask_id, 300, b.input_ids)})
    assert ill.verdict() == "mask-absent"


def test_2_everything_hidden(healthy_task: Healthy) -> None:
    patient = healthy_task("masked")
    controls = list(patient.tokenizer.control_ids)

    def change(batch: Batch) -> dict[str, Any]:
        chosen = (batch.document_ids >= 0) & ~np.isin(batch.target_ids, controls)
        hidden = np.where(chosen, patient.tokenizer.mask_id, batch.target_ids)
        return {"loss_mask": chosen, "input_ids": hidden, "n_counted": int(chosen.sum())}

    assert changed(patient, change).verdict() == "mask-everywhere"


def test_1_control_tokens_to_be_guessed(healthy_task: Healthy) -> None:
    patient = healthy_task("masked")

    def change(batch: Batch) -> dict[str, Any]:
        chosen = batch.loss_mask | (batch.target_ids == patient.tokenizer.sep_id)
        return {"loss_mask": chosen, "n_counted": int(chosen.sum())}

    assert changed(patient, change).verdict() == "special-masked"


def test_16_hidden_tokens_whose_targets_are_shifted(healthy_task: Healthy) -> None:
    patient = healthy_task("masked")
    ill = changed(patient, lambda b: {"target_ids": np.roll(b.target_ids, -1, axis=1)})
    assert "targets-shift" in ill.faults()
    assert ill.verdict() in ("targets-shift", "special-masked")


def test_16_a_batch_for_a_decoder_given_to_an_encoder(healthy_task: Healthy) -> None:
    patient, decoder = healthy_task("masked"), healthy_task("prefix")

    class Wrong:
        rows_per_epoch = decoder.source.rows_per_epoch

        def rows(self, start_row: int, n_rows: int) -> MaskedBatch:
            return as_kind(decoder.source.source.rows(start_row, n_rows), MaskedBatch)

    assert {"mask-everywhere", "mask-absent"} <= set(patient.but(source=Wrong()).faults())


def test_14_texts_that_are_not_told_apart(healthy_task: Healthy) -> None:
    patient = healthy_task("masked")
    ill = changed(patient, lambda b: {"document_ids": np.minimum(b.document_ids, 0)})
    assert ill.verdict() == "documents-leak"
    assert changed(patient, lambda b: {"single_document": True}).verdict() == "documents-leak"


def test_14_positions_that_run_on(healthy_task: Healthy) -> None:
    def change(batch: Batch) -> dict[str, Any]:
        return {"position_ids": np.broadcast_to(np.arange(64), batch.input_ids.shape).copy()}

    assert changed(healthy_task("masked"), change).verdict() == "positions-run-on"


# ---- pairs


@PAIRS
def test_16_target_inputs_that_are_not_shifted(kind: str, healthy_task: Healthy) -> None:
    ill = changed(healthy_task(kind), lambda b: {"input_ids": b.target_ids.copy()})
    assert ill.verdict() == "targets-shift"


@PAIRS
def test_16_target_inputs_that_are_shifted_twice(kind: str, healthy_task: Healthy) -> None:
    ill = changed(healthy_task(kind), lambda b: {"input_ids": np.roll(b.input_ids, 1, axis=1)})
    assert ill.verdict() == "targets-shift"


@PAIRS
def test_16_targets_that_begin_with_another_id(kind: str, healthy_task: Healthy) -> None:
    def change(batch: PairBatch) -> dict[str, Any]:
        return {"input_ids": np.where(batch.input_ids == 0, 5, batch.input_ids)}

    assert changed(healthy_task(kind), change).verdict() == "decoder-start"


@PAIRS
def test_4_an_end_that_never_counts(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)

    def uncounted(batch: PairBatch) -> dict[str, Any]:
        mask = batch.loss_mask & (batch.target_ids != patient.tokenizer.eos_id)
        return {"loss_mask": mask, "n_counted": int(mask.sum())}

    assert changed(patient, uncounted).verdict() == "no-end-of-text"


@PAIRS
def test_5_padding_that_is_the_end(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    shards = replace(patient.shards, pad_id=patient.tokenizer.eos_id)
    assert patient.but(shards=shards, source=patient.source).verdict() == "pad-is-eos"


@PAIRS
def test_2_targets_without_a_source(kind: str, healthy_task: Healthy) -> None:
    def change(batch: PairBatch) -> dict[str, Any]:
        documents = batch.source_document_ids
        empty = {"source_mask": np.zeros_like(batch.source_mask)}
        return empty | ({} if documents is None else {"source_document_ids": np.full_like(documents, -1)})

    assert changed(healthy_task(kind), change).verdict() == "source-empty"


def test_2_a_source_that_is_its_target(healthy_task: Healthy) -> None:
    patient = healthy_task("translate")

    def change(batch: PairBatch) -> dict[str, Any]:
        start = np.zeros((len(batch.source_ids), 1), np.int64)
        counted = batch.source_mask
        return {
            "target_ids": batch.source_ids,
            "input_ids": np.concatenate([start, batch.source_ids[:, :-1]], axis=1),
            "loss_mask": counted,
            "n_counted": int(counted.sum()),
        }

    assert changed(patient, change).verdict() == "source-is-target"


def test_16_sentinels_that_are_missing_or_in_another_order(healthy_task: Healthy) -> None:
    patient = healthy_task("span_corruption")
    sentinels = np.array(patient.tokenizer.sentinel_ids)

    def none(batch: PairBatch) -> dict[str, Any]:
        return {"source_ids": np.where(np.isin(batch.source_ids, sentinels), 300, batch.source_ids)}

    def turned(batch: PairBatch) -> dict[str, Any]:
        places = np.isin(batch.source_ids, sentinels)
        other = sentinels[(np.searchsorted(sentinels, batch.source_ids) + 1) % len(sentinels)]
        return {"source_ids": np.where(places, other, batch.source_ids)}

    assert changed(patient, none).verdict() == "sentinels-differ"
    assert changed(patient, turned).verdict() == "sentinels-differ"


# ---- labels and scores


def with_answers(patient: Patient, change: Callable[[np.ndarray], np.ndarray]) -> Patient:
    return changed(patient, lambda batch: {"labels": change(batch.labels)})


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_a_label_that_the_head_has_no_output_for(kind: str, healthy_task: Healthy) -> None:
    ill = with_answers(healthy_task(kind), lambda labels: np.where(labels == 2, 3, labels))
    assert ill.verdict() == "label-out-of-range"
    [fault] = [finding for finding in ill.findings() if not finding.passed]
    assert "label 3 occurs" in fault.detail
    assert "3 labels, 0 to 2" in fault.detail
    assert with_answers(healthy_task(kind), lambda labels: labels - 1).verdict() == "label-out-of-range"


def test_a_label_out_of_range_is_named(healthy_task: Healthy) -> None:
    patient = healthy_task("classify")
    two = task_model("classify", patient.model.config.vocab_size)
    two.classes = two.classes.replace(labels=LABELS[:2])
    shards = replace(patient.shards, labels=LABELS)
    ill = patient.but(model=two, shards=shards, source=patient.source)
    assert ill.verdict() == "labels-differ"
    quiet = patient.but(model=two, shards=replace(shards, labels=()), source=patient.source)
    assert quiet.verdict() == "label-out-of-range"


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_8_labels_in_another_order_than_the_heads(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    shards = replace(patient.shards, labels=LABELS[::-1])
    ill = patient.but(shards=shards, source=patient.source)
    assert ill.verdict() == "labels-differ"
    [fault] = [finding for finding in ill.findings() if not finding.passed]
    assert "label 0 is 'quiet' to the head and 'between' in the data" in fault.detail


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_2_labels_that_never_occur(kind: str, healthy_task: Healthy) -> None:
    absent = with_answers(healthy_task(kind), lambda labels: np.where(labels == 1, 0, labels))
    assert absent.verdict() == "label-never-seen"
    alone = with_answers(healthy_task(kind), np.zeros_like)
    assert {"label-never-seen", "only-one-label"} <= set(alone.faults())


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda scores: np.full_like(scores, 1.5), "scores-unfit"),
        (lambda scores: np.where(scores > 1.5, np.nan, scores).astype(np.float32), "scores-unfit"),
        (lambda scores: scores * 1000, "scores-unscaled"),
    ],
)
def test_2_scores_that_cannot_be_learned(change: Any, verdict: str, healthy_task: Healthy) -> None:
    assert with_answers(healthy_task("regress"), change).verdict() == verdict


@pytest.mark.parametrize(
    ("kind", "other"), [("classify", "tag"), ("tag", "classify"), ("regress", "classify")]
)
def test_a_head_for_another_task(kind: str, other: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    stranger = task_model(other, patient.model.config.vocab_size)
    assert patient.but(model=stranger).verdict() == "head-differs"


# ---- texts that mean alike


def test_2_pairs_with_nothing_to_be_told_from(healthy_task: Healthy) -> None:
    patient = healthy_task("embed")
    assert patient.but(plan=examples_plan(micro_batch_size=1)).verdict() == "no-negatives"


def test_2_pairs_of_one_text_or_of_none(healthy_task: Healthy) -> None:
    def same(batch: TextPairBatch) -> dict[str, Any]:
        return {"second_ids": batch.first_ids, "second_mask": batch.first_mask}

    def empty(batch: TextPairBatch) -> dict[str, Any]:
        mask = batch.first_mask.copy()
        mask[0] = False
        return {"first_mask": mask}

    assert changed(healthy_task("embed"), same).verdict() == "texts-equal"
    assert changed(healthy_task("embed"), empty).verdict() == "texts-empty"


def test_every_error_says_what_is_wrong_and_the_way_out(healthy_task: Healthy) -> None:
    patient = healthy_task("masked")
    ill = changed(patient, lambda b: {"input_ids": b.target_ids.copy()})
    [fault] = [finding for finding in ill.findings() if not finding.passed]
    assert fault.detail.startswith("0 of ")
    assert fault.hint
    assert fault.pitfall == 16
