"""Whatever stands in padding, and whatever the target of a place that does not count, changes no loss."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parakit.tokens.batches.batch import Batch, LabelledBatch, PairBatch, TextPairBatch
from parakit.training.micro_batches import to_micro_batch
from tests.short_suite import examples
from tests.training.tiny_tasks import TASKS, VOCAB_SIZE, gradients, woken

NAMES = [name for name in TASKS if name != "experts"]


@singledispatch
def meddled(batch: Any, generator: np.random.Generator, more: int) -> Any:
    """`batch` with `more` columns of padding, and other ids wherever they must not matter."""
    raise TypeError(type(batch))


def widened(array: np.ndarray | None, more: int, fill: int = 0) -> np.ndarray | None:
    if array is None:
        return None
    width = ((0, 0), (0, more), *[(0, 0)] * (array.ndim - 2))
    return np.pad(array, width, constant_values=fill)


def junk(
    array: np.ndarray, where: np.ndarray, generator: np.random.Generator, below: int = VOCAB_SIZE
) -> np.ndarray:
    return np.where(where, generator.integers(0, below, array.shape), array).astype(array.dtype)


@meddled.register
def _tokens(batch: Batch, generator: np.random.Generator, more: int) -> Batch:
    names = [
        name
        for name, value in vars(batch).items()
        if isinstance(value, np.ndarray) and name not in ("document_ids",)
    ]
    wide: Any = {name: widened(getattr(batch, name), more) for name in names}
    wide["document_ids"] = widened(batch.document_ids, more, -1)
    wide["input_ids"] = junk(wide["input_ids"], wide["document_ids"] < 0, generator)
    wide["target_ids"] = junk(wide["target_ids"], ~wide["loss_mask"], generator)
    if "target_logits" in wide:
        rest = ~wide["loss_mask"][..., None]
        others = generator.normal(size=wide["target_logits"].shape).astype(np.float32)
        wide["target_logits"] = np.where(rest, others, wide["target_logits"])
    return replace(batch, **wide, single_document=batch.single_document and not more)


@meddled.register
def _pairs(batch: PairBatch, generator: np.random.Generator, more: int) -> PairBatch:
    wide: Any = {n: widened(v, more) for n, v in vars(batch).items() if isinstance(v, np.ndarray)}
    for name in ("source_document_ids", "document_ids"):
        wide[name] = widened(getattr(batch, name), more, -1)
    wide["source_ids"] = junk(wide["source_ids"], ~wide["source_mask"], generator)
    for name in ("input_ids", "target_ids"):
        wide[name] = junk(wide[name], ~wide["loss_mask"], generator)
    return replace(batch, **wide)


@meddled.register
def _labelled(batch: LabelledBatch, generator: np.random.Generator, more: int) -> LabelledBatch:
    changed: Any = {name: widened(getattr(batch, name), more) for name in ("attention_mask", "input_ids")}
    padding = ~changed["attention_mask"]
    changed["input_ids"] = junk(changed["input_ids"], padding, generator)
    if batch.token_type_ids is not None:
        changed["token_type_ids"] = junk(widened(batch.token_type_ids, more), padding, generator, 2)
    if batch.loss_mask is not None:
        changed["loss_mask"] = widened(batch.loss_mask, more)
        changed["labels"] = junk(widened(batch.labels, more), ~changed["loss_mask"], generator, 3)
    return replace(batch, **changed)


@meddled.register
def _text_pairs(batch: TextPairBatch, generator: np.random.Generator, more: int) -> TextPairBatch:
    wide: Any = {n: widened(v, more) for n, v in vars(batch).items() if isinstance(v, np.ndarray)}
    for side in ("first", "second"):
        wide[f"{side}_ids"] = junk(wide[f"{side}_ids"], ~wide[f"{side}_mask"], generator)
    return replace(batch, **wide)


@pytest.mark.parametrize("name", NAMES)
@examples(12)
@given(
    seed=st.integers(0, 10_000),
    more=st.integers(0, 5),
    first_row=st.integers(0, 50),
    n_rows=st.integers(1, 5),
)
def test_padding_and_what_does_not_count_change_nothing(
    name: str, seed: int, more: int, first_row: int, n_rows: int
) -> None:
    torch.manual_seed(0)
    task, device = TASKS[name], torch.device("cpu")
    model, batch = woken(task.model().double()), task.source().rows(first_row, n_rows)
    other = meddled(batch, np.random.default_rng(seed), more)
    found = []
    for one in (batch, other):
        model.zero_grad()
        loss = task.objective(model, to_micro_batch(one, device))
        loss.backward()
        found.append((loss.item(), gradients(model)))
    (loss, wanted), (changed, got) = found
    assert changed == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert all(torch.allclose(got[n], wanted[n], rtol=1e-7, atol=1e-9) for n in wanted)
