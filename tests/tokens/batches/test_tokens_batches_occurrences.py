"""Where rows read a document: exactly where the batches have its tokens, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest

from parakit.tokens.batches.batch import Occurrence
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.shards import TokenShards


def numbered_shards(n_documents: int, seed: int, first_id: int = 0) -> TokenShards:
    """Documents of 0 to 40 tokens, each token of an id of its own."""
    lengths = np.random.default_rng(seed).integers(0, 40, n_documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenShards(np.arange(first_id, first_id + offsets[-1], dtype=np.uint32), offsets, pad_id=0)


def read_off(batch, shards: TokenShards, document: int) -> set[tuple[int, int, int]]:
    """(row, column, token of the document) wherever the batch has it."""
    low, high = (int(n) for n in shards.offsets[document : document + 2])
    ids = batch.input_ids - int(shards.token_ids[0])
    real = (batch.document_ids >= 0) & (ids >= low) & (ids < high)
    return {(r, c, int(ids[r, c]) - low) for r, c in zip(*np.nonzero(real), strict=True)}


def listed(found: list[Occurrence]) -> set[tuple[int, int, int]]:
    places = [(one.row, one.column + i, one.first_token + i) for one in found for i in range(one.n_tokens)]
    assert len(places) == len(set(places))
    return set(places)


@pytest.mark.parametrize("packing", ["concat", "pack"])
@pytest.mark.parametrize("shift", [0, 1])
def test_rows_read_a_document_where_the_batches_have_its_tokens(packing: str, shift: int) -> None:
    shards = numbered_shards(30, 1)
    source = BatchSource(shards, 12, seed=3, packing=packing, shift=shift)
    n_rows = int(2.6 * source.rows_per_epoch)
    batch = source.rows(0, n_rows)
    for document in range(30):
        assert listed(source.find(document, n_rows)) == read_off(batch, shards, document), document


def test_replayed_rows_keep_their_places() -> None:
    new, old = numbered_shards(20, 1), numbered_shards(15, 2, first_id=10_000)
    source = ReplaySource(BatchSource(new, 10, seed=1), BatchSource(old, 10, seed=2), 0.3)
    batch = source.rows(0, 70)
    for document in range(20):
        assert listed(source.find(document, 70)) == read_off(batch, new, document)
    for document in range(15):
        assert listed(source.find_replayed(document, 70)) == read_off(batch, old, document)


def test_a_document_that_no_row_reads_is_in_none() -> None:
    shards = numbered_shards(10, 1)
    empty = replace(shards, offsets=np.concatenate([shards.offsets, shards.offsets[-1:]]))
    assert BatchSource(empty, 12, seed=1).find(10, 100) == []
