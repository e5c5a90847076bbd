"""Micro-batches: batches as tensors on the device, the input of an objective.

`to_micro_batch` turns each class of numpy batch into its own class of micro-batch and computes its attention masks:
packed documents never attend to each other, and nothing attends to padding. A package with batches of its own registers
a class there. Every micro-batch has the number of tokens or examples in its loss (`n_counted`) and of positions that
pass through the network, padding included (`n_tokens`).

Shapes: B rows, T tokens, S source tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from parakit.model.layers.masks import cross_document_mask, document_mask, prefix_tree_mask
from parakit.model.layers.tree_attention import remember_segments
from parakit.tokens.batches.batch import (
    Batch,
    LabelledBatch,
    MaskedBatch,
    PairBatch,
    PrefixBatch,
    RankingBatch,
    TextPairBatch,
)
from parakit.tokens.batches.pair_overlap import pair_overlap
from parakit.tokens.batches.prefix_trees import PrefixTreeRows, pack_prefix_trees


class TrainingBatch(Protocol):
    """What the training loop reads of any micro-batch."""

    @property
    def n_counted(self) -> int:
        """Tokens or examples that the loss is divided by."""
        ...

    @property
    def n_tokens(self) -> int:
        """Positions that pass through the network, padding included."""
        ...


@dataclass(frozen=True)
class MicroBatch:
    """Rows for a decoder. `attention_mask` is None where every row is one document under plain causal
    attention.
    """

    input_ids: Tensor  # (B, T) int64
    target_ids: Tensor  # (B, T) int64
    loss_mask: Tensor | None  # (B, T) bool, True = counts; None: all count
    position_ids: Tensor | None  # (B, T) int64
    attention_mask: Tensor | None  # (B, 1, T, T) bool, True = may attend
    n_counted: int
    real_mask: Tensor | None = None  # (B, T) bool, False = padding; None: no padding, or all count

    @property
    def n_tokens(self) -> int:
        """Positions that pass through the network, padding included."""
        return self.input_ids.numel()


@dataclass(frozen=True)
class MaskedMicroBatch(MicroBatch):
    """Rows for an encoder, with bidirectional attention; the counted tokens are masked in the input."""


@dataclass(frozen=True, kw_only=True)
class DistributionMicroBatch(MicroBatch):
    """Rows for a decoder, with a distribution over the vocabulary as the target of each position."""

    target_logits: Tensor  # (B, T, V): log-probabilities up to a constant


@dataclass(frozen=True)
class PairMicroBatch:
    """Sources and targets for an encoder-decoder."""

    source_ids: Tensor  # (B, S) int64
    source_mask: Tensor | None  # (B, S), or (B, 1, S, S) of packed rows; None: no padding
    source_position_ids: Tensor | None  # (B, S) int64, of packed rows
    input_ids: Tensor  # (B, T) int64
    target_ids: Tensor  # (B, T) int64
    loss_mask: Tensor | None  # (B, T) bool; None: all count
    position_ids: Tensor | None  # (B, T) int64, of packed rows
    attention_mask: Tensor | None  # (B, 1, T, T), of packed rows; None: plain causal attention
    cross_mask: Tensor | None  # (B, S), or (B, 1, T, S) of packed rows: what a target token attends to
    n_counted: int
    source_real_mask: Tensor | None = None  # (B, S) bool; None: no padding
    real_mask: Tensor | None = None  # (B, T) bool; None: no padding

    @property
    def n_tokens(self) -> int:
        """Source and target positions, padding included."""
        return self.source_ids.numel() + self.input_ids.numel()


@dataclass(frozen=True)
class LabelledMicroBatch:
    """Texts with a class, a score, or a tag of each token."""

    input_ids: Tensor  # (B, T) int64
    attention_mask: Tensor | None  # (B, T) bool, True = a real token; None: no padding
    token_type_ids: Tensor | None  # (B, T) int64
    labels: Tensor  # (B,) int64 or float32, or (B, T) int64
    loss_mask: Tensor | None  # (B, T) bool, for tags
    n_counted: int

    @property
    def n_tokens(self) -> int:
        """Positions that pass through the network, padding included."""
        return self.input_ids.numel()


@dataclass(frozen=True)
class TextPairMicroBatch:
    """Pairs of texts of similar meaning. `same[i, j]`: pairs i and j share a text, so that the second text of j is no
    negative for the first text of i.
    """

    first_ids: Tensor  # (B, T) int64
    first_mask: Tensor | None  # (B, T) bool, True = a real token; None: no padding
    second_ids: Tensor  # (B, S) int64
    second_mask: Tensor | None  # (B, S) bool
    same: Tensor  # (B, B) bool, True on the diagonal
    n_counted: int
    negative_ids: Tensor | None = None  # (N, U) int64, hard negatives of all pairs
    negative_mask: Tensor | None = None  # (N, U) bool, True = a real token
    no_negative: Tensor | None = None  # (B, N) bool, True = text n belongs to pair b and is no negative of it

    @property
    def n_tokens(self) -> int:
        """Positions of all texts, padding included."""
        return sum(ids.numel() for ids in self.text_ids)

    @property
    def text_ids(self) -> list[Tensor]:
        """The token ids of first texts, second texts and negatives, each (rows, length)."""
        return [ids for ids in (self.first_ids, self.second_ids, self.negative_ids) if ids is not None]


@dataclass(frozen=True)
class PrefixTreeInputs:
    """N sequences packed into R rows of length L with their shared prefixes once, for a model that
    `supports_prefix_tree`. `places`: the index of each sequence's tokens in the flattened rows.
    """

    input_ids: Tensor  # (R, L) int64
    position_ids: Tensor  # (R, L) int64
    attention_mask: Tensor  # (R, 1, L, L) bool
    real_mask: Tensor  # (R, L) bool
    places: Tensor  # (N, S) int64


def prefix_tree_inputs(rows: PrefixTreeRows, device: torch.device) -> PrefixTreeInputs:
    """The rows as tensors on `device`, with their attention mask."""
    trees, branches = (torch.from_numpy(ids).to(device) for ids in (rows.tree_ids, rows.branch_ids))
    attention_mask = prefix_tree_mask(trees, branches)
    remember_segments(attention_mask, rows.tree_ids, rows.branch_ids)
    return PrefixTreeInputs(
        input_ids=torch.from_numpy(rows.token_ids).to(device),
        position_ids=torch.from_numpy(rows.position_ids).to(device),
        attention_mask=attention_mask,
        real_mask=trees >= 0,
        places=torch.from_numpy(rows.places).to(device),
    )


@dataclass(frozen=True)
class RankingMicroBatch:
    """The N completions of R rankings, grouped by ranking, the best first. Padding is on the right, where causal
    attention does not look.
    """

    input_ids: Tensor  # (N, T) int64
    target_ids: Tensor  # (N, T) int64
    loss_mask: Tensor  # (N, T) bool, True = the target is a token of the completion
    real_mask: Tensor  # (N, T) bool, False = padding
    group: Tensor  # (N,) int64, the number of the ranking: 0, 1, ...
    place: Tensor  # (N,) int64, 0 = the best
    margins: Tensor  # (R,) float32
    reference: Tensor | None  # (N,) float32, log-probabilities of the completions under the reference
    n_counted: int  # rankings
    prefix_tree: PrefixTreeInputs | None = None
    """`full_ids` with each prompt once; None: one row per completion."""

    @property
    def n_tokens(self) -> int:
        """Positions that pass through the network, padding included."""
        return (self.input_ids if self.prefix_tree is None else self.prefix_tree.input_ids).numel()

    @property
    def full_ids(self) -> Tensor:
        """(N, T + 1) int64: prompt and completion, including the last token."""
        return torch.cat([self.input_ids[:, :1], self.target_ids], 1)

    @property
    def full_mask(self) -> Tensor:
        """(N, T + 1) bool, True = a real token of `whole_ids`."""
        return torch.cat([self.real_mask[:, :1], self.real_mask], 1)


@dataclass(frozen=True, kw_only=True)
class DistributionBatch(Batch):
    """A batch of tokens with a distribution over the vocabulary as each target."""

    target_logits: np.ndarray  # (B, T, V) float32, log-probabilities up to a constant


# A model and a micro-batch of its class -> the sum of the losses over the counted tokens or examples, in float32.
Objective = Callable[[Any, Any], Tensor]


def input_ids_of(batch: TrainingBatch) -> Tensor:
    """The first token ids of a micro-batch: its inputs, sources, or first texts."""
    return next(value for value in vars(batch).values() if isinstance(value, Tensor))


@singledispatch
def to_micro_batch(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
    """Move a batch of numpy arrays to `device` and compute its masks.

    `always_masked` adds masks to rows that need none, so that compiled code gets one signature.
    """
    raise TypeError(f"{type(batch).__name__} has no micro-batch class; register one with to_micro_batch")


@to_micro_batch.register
def _tokens(batch: Batch, device: torch.device, always_masked: bool = False) -> MicroBatch:
    return MicroBatch(**_decoder_fields(batch, device, always_masked))


@to_micro_batch.register
def _distributions(
    batch: DistributionBatch, device: torch.device, always_masked: bool = False
) -> DistributionMicroBatch:
    fields = _decoder_fields(batch, device, always_masked)
    return DistributionMicroBatch(**fields, target_logits=torch.from_numpy(batch.target_logits).to(device))


@to_micro_batch.register
def _prefixes(batch: PrefixBatch, device: torch.device, always_masked: bool = False) -> MicroBatch:
    """Bidirectional attention within the prefix, causal after it (Raffel et al. 2020, figure 4)."""
    fields = _decoder_fields(batch, device, always_masked=True)
    documents = torch.from_numpy(batch.document_ids).to(device)
    in_prefix = torch.from_numpy(batch.prefix_mask).to(device)  # (B, T)
    bidirectional = document_mask(documents, causal=False) & in_prefix[:, None, None, :]
    return MicroBatch(**fields | {"attention_mask": fields["attention_mask"] | bidirectional})


@to_micro_batch.register
def _masked_tokens(batch: MaskedBatch, device: torch.device, always_masked: bool = False) -> MaskedMicroBatch:
    fields = _decoder_fields(batch, device, always_masked)
    if fields["attention_mask"] is not None:
        documents = torch.from_numpy(batch.document_ids).to(device)
        fields["attention_mask"] = document_mask(documents, causal=False)
    return MaskedMicroBatch(**fields)


@to_micro_batch.register
def _pairs(batch: PairBatch, device: torch.device, always_masked: bool = False) -> PairMicroBatch:
    real = batch.loss_mask if batch.document_ids is None else batch.document_ids >= 0
    source_mask = _mask_or_none(batch.source_mask, device)
    cross_mask = None if source_mask is None else _unmask_empty_rows(source_mask)
    masks: dict[str, Any] = {"source_mask": source_mask, "cross_mask": cross_mask, "attention_mask": None}
    positions: dict[str, Any] = {"source_position_ids": None, "position_ids": None}
    source_documents, target_documents = batch.source_document_ids, batch.document_ids
    if always_masked and (source_documents is None or target_documents is None):
        source_documents, target_documents = np.where(batch.source_mask, 0, -1), np.where(real, 0, -1)
    if source_documents is not None and target_documents is not None:
        sources = torch.from_numpy(source_documents).to(device)
        targets = torch.from_numpy(target_documents).to(device)
        masks = {
            "source_mask": document_mask(sources, causal=False),
            "cross_mask": _unmask_empty_rows(cross_document_mask(targets, sources)),
            "attention_mask": document_mask(targets),
        }
        positions = {
            "source_position_ids": torch.from_numpy(_document_positions(source_documents)).to(device),
            "position_ids": torch.from_numpy(_document_positions(target_documents)).to(device),
        }
    return PairMicroBatch(
        source_ids=torch.from_numpy(batch.source_ids).to(device),
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        target_ids=torch.from_numpy(batch.target_ids).to(device),
        loss_mask=_mask_or_none(batch.loss_mask, device),
        n_counted=batch.n_counted,
        source_real_mask=_mask_or_none(batch.source_mask, device),
        real_mask=_mask_or_none(real, device),
        **masks,
        **positions,
    )


@to_micro_batch.register
def _labelled(batch: LabelledBatch, device: torch.device, always_masked: bool = False) -> LabelledMicroBatch:
    types, mask = batch.token_type_ids, batch.loss_mask
    return LabelledMicroBatch(
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        attention_mask=_mask_or_none(batch.attention_mask, device, always_masked),
        token_type_ids=None if types is None else torch.from_numpy(types).to(device),
        labels=torch.from_numpy(batch.labels).to(device),
        loss_mask=None if mask is None else torch.from_numpy(mask).to(device),
        n_counted=batch.n_counted,
    )


@to_micro_batch.register
def _text_pairs(
    batch: TextPairBatch, device: torch.device, always_masked: bool = False
) -> TextPairMicroBatch:
    texts = pair_overlap(batch)
    return TextPairMicroBatch(
        first_ids=torch.from_numpy(batch.first_ids).to(device),
        first_mask=_mask_or_none(batch.first_mask, device, always_masked),
        second_ids=torch.from_numpy(batch.second_ids).to(device),
        second_mask=_mask_or_none(batch.second_mask, device, always_masked),
        same=torch.from_numpy(texts.same).to(device),
        n_counted=batch.n_counted,
        **{name: torch.from_numpy(array).to(device) for name, array in texts.of_negatives().items()},
    )


@to_micro_batch.register
def _rankings(batch: RankingBatch, device: torch.device, always_masked: bool = False) -> RankingMicroBatch:
    exists = batch.real_mask.any(-1)  # (R, K): rankings have at most K completions
    group, place = np.nonzero(exists)
    input_ids, target_ids = batch.input_ids[exists], batch.target_ids[exists]  # (N, T)
    loss_mask, real_mask = batch.loss_mask[exists], batch.real_mask[exists]
    prefix_tree = None
    if batch.share_prompts:
        n = real_mask.sum(1)
        full_ids = np.pad(
            input_ids, ((0, 0), (0, 1))
        )  # built from inputs: targets of the prompt may be masked
        full_ids[np.arange(len(n)), n] = target_ids[np.arange(len(n)), n - 1]  # the last token is no input
        trees = pack_prefix_trees(full_ids, n + 1, loss_mask.argmax(1) + 1)
        prefix_tree = prefix_tree_inputs(trees, device)
    return RankingMicroBatch(
        input_ids=torch.from_numpy(input_ids).to(device),
        target_ids=torch.from_numpy(target_ids).to(device),
        loss_mask=torch.from_numpy(loss_mask).to(device),
        real_mask=torch.from_numpy(real_mask).to(device),
        prefix_tree=prefix_tree,
        group=torch.from_numpy(group).to(device),
        place=torch.from_numpy(place).to(device),
        margins=torch.from_numpy(batch.margins).to(device),
        reference=None if batch.reference is None else torch.from_numpy(batch.reference[exists]).to(device),
        n_counted=batch.n_counted,
    )


def _decoder_fields(batch: Batch, device: torch.device, always_masked: bool) -> dict[str, Any]:
    """The fields of a `MicroBatch`; packed documents get a block-diagonal causal mask."""
    attention_mask = position_ids = None
    if always_masked or not batch.single_document:
        attention_mask = document_mask(torch.from_numpy(batch.document_ids).to(device))
        position_ids = torch.from_numpy(batch.position_ids).to(device)
    all_counted = batch.n_counted == batch.loss_mask.size
    return {
        "input_ids": torch.from_numpy(batch.input_ids).to(device),
        "target_ids": torch.from_numpy(batch.target_ids).to(device),
        "loss_mask": None if all_counted else torch.from_numpy(batch.loss_mask).to(device),
        "position_ids": position_ids,
        "attention_mask": attention_mask,
        "n_counted": batch.n_counted,
        "real_mask": None if all_counted else _mask_or_none(batch.document_ids >= 0, device),
    }


def _mask_or_none(mask: np.ndarray, device: torch.device, always: bool = False) -> Tensor | None:
    """None for a mask that is all True: attention and losses without a mask cost less."""
    return None if mask.all() and not always else torch.from_numpy(mask).to(device)


def _document_positions(document_ids: np.ndarray) -> np.ndarray:
    """Positions (B, T) that restart at 0 in each document."""
    columns = np.broadcast_to(np.arange(document_ids.shape[1]), document_ids.shape)
    begins = np.ones(document_ids.shape, bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return columns - np.maximum.accumulate(np.where(begins, columns, 0), axis=1)


def _unmask_empty_rows(cross_mask: Tensor) -> Tensor:
    """Let a target token without a source (padding, or not counted) attend to the whole row: a softmax over nothing
    is 0 / 0.
    """
    return cross_mask | ~cross_mask.any(-1, keepdim=True)
