"""The mistakes of masked tokens, put back one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from parakit.tokens.batches.batch import Batch, MaskedBatch
from tests.contracts.task_cases import (
    as_type,
    changed,
)
from tests.contracts.training_cases import TrainingCase

Healthy = Callable[..., TrainingCase]


@pytest.mark.catches("mask-absent")
def test_masked_positions_that_show_their_token(healthy_task: Healthy) -> None:
    broken = changed(healthy_task("masked"), lambda b: {"input_ids": b.target_ids.copy()})
    assert broken.first_failure() == "mask-absent"


@pytest.mark.catches("mask-absent")
def test_another_token_in_place_of_mask(healthy_task: Healthy) -> None:
    case = healthy_task("masked")
    mask_id = case.tokenizer.mask_id
    broken = changed(case, lambda b: {"input_ids": np.where(b.input_ids == mask_id, 300, b.input_ids)})
    assert broken.first_failure() == "mask-absent"


@pytest.mark.catches("mask-everywhere")
def test_everything_masked(healthy_task: Healthy) -> None:
    case = healthy_task("masked")
    controls = list(case.tokenizer.control_ids)

    def change(batch: Batch) -> dict[str, Any]:
        chosen = (batch.document_ids >= 0) & ~np.isin(batch.target_ids, controls)
        hidden = np.where(chosen, case.tokenizer.mask_id, batch.target_ids)
        return {"loss_mask": chosen, "input_ids": hidden, "n_counted": int(chosen.sum())}

    assert changed(case, change).first_failure() == "mask-everywhere"


@pytest.mark.catches("special-masked")
def test_masked_control_tokens(healthy_task: Healthy) -> None:
    case = healthy_task("masked")

    def change(batch: Batch) -> dict[str, Any]:
        chosen = batch.loss_mask | (batch.target_ids == case.tokenizer.sep_id)
        return {"loss_mask": chosen, "n_counted": int(chosen.sum())}

    assert changed(case, change).first_failure() == "special-masked"


def test_masked_tokens_whose_targets_are_shifted(healthy_task: Healthy) -> None:
    case = healthy_task("masked")
    broken = changed(case, lambda b: {"target_ids": np.roll(b.target_ids, -1, axis=1)})
    assert "targets-shift" in broken.failures()
    assert broken.first_failure() in ("targets-shift", "special-masked")


def test_a_batch_for_a_decoder_given_to_an_encoder(healthy_task: Healthy) -> None:
    case, decoder = healthy_task("masked"), healthy_task("prefix")

    class Wrong:
        rows_per_epoch = decoder.source.rows_per_epoch

        def rows(self, start_row: int, n_rows: int) -> MaskedBatch:
            return as_type(decoder.source.source.rows(start_row, n_rows), MaskedBatch)

    assert {"mask-everywhere", "mask-absent"} <= set(case.replace(source=Wrong()).failures())


@pytest.mark.catches("documents-not-separated")
def test_texts_under_one_document_id(healthy_task: Healthy) -> None:
    case = healthy_task("masked")
    broken = changed(case, lambda b: {"document_ids": np.minimum(b.document_ids, 0)})
    assert broken.first_failure() == "documents-not-separated"
    assert changed(case, lambda b: {"single_document": True}).first_failure() == "documents-not-separated"


@pytest.mark.catches("positions-not-reset")
def test_positions_that_continue_across_documents(healthy_task: Healthy) -> None:
    def change(batch: Batch) -> dict[str, Any]:
        return {"position_ids": np.broadcast_to(np.arange(64), batch.input_ids.shape).copy()}

    assert changed(healthy_task("masked"), change).first_failure() == "positions-not-reset"
