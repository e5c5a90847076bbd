"""Batches as tensors on the device: what an objective is given.

`to_micro_batch` turns each class of numpy batch into its own class of micro-batch, with the attention masks that
belong to it: packed documents never see each other, padding is never attended to. A stage with batches of
another kind registers its class there. Every micro-batch says how much of it counts (`n_counted`: tokens or
examples) and how many positions pass the network, padding included (`n_tokens`).

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
from parakit.tokens.batches.batch import (
    Batch,
    LabelledBatch,
    MaskedBatch,
    PairBatch,
    PrefixBatch,
    RankingBatch,
    TextPairBatch,
)
from parakit.tokens.batches.prefix_trees import PrefixTreeRows, pack_prefix_trees


class TrainingBatch(Protocol):
    """What the loop needs of any micro-batch."""

    @property
    def n_counted(self) -> int:
        """Tokens or examples that the loss is divided by."""
        ...

    @property
    def n_tokens(self) -> int:
        """Positions that pass the network, padding included."""
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
        """Positions that pass the network, padding included."""
        return self.input_ids.numel()


@dataclass(frozen=True)
class MaskedMicroBatch(MicroBatch):
    """Rows for an encoder, in which the places that count hide their token: attention goes both ways."""


@dataclass(frozen=True, kw_only=True)
class DistributionMicroBatch(MicroBatch):
    """Rows for a decoder with a whole distribution as the target of each place."""

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
    cross_mask: Tensor | None  # (B, S), or (B, 1, T, S) of packed rows: which of its source a target sees
    n_counted: int
    source_real_mask: Tensor | None = None  # (B, S) bool; None: no padding
    real_mask: Tensor | None = None  # (B, T) bool; None: no padding

    @property
    def n_tokens(self) -> int:
        """Source and target positions, padding included."""
        return self.source_ids.numel() + self.input_ids.numel()


@dataclass(frozen=True)
class LabelledMicroBatch:
    """Texts with a class, a score, or a tag for each token."""

    input_ids: Tensor  # (B, T) int64
    attention_mask: Tensor | None  # (B, T) bool, True = a real token; None: no padding
    token_type_ids: Tensor | None  # (B, T) int64
    labels: Tensor  # (B,) int64 or float32, or (B, T) int64
    loss_mask: Tensor | None  # (B, T) bool, for tags
    n_counted: int

    @property
    def n_tokens(self) -> int:
        """Positions that pass the network, padding included."""
        return self.input_ids.numel()


@dataclass(frozen=True)
class TextPairMicroBatch:
    """Pairs of texts that mean alike. `same[i, j]`: pair j's second text is no wrong answer to pair i's first,
    because the two pairs share a text.
    """

    first_ids: Tensor  # (B, T) int64
    first_mask: Tensor | None  # (B, T) bool, True = a real token; None: no padding
    second_ids: Tensor  # (B, S) int64
    second_mask: Tensor | None  # (B, S) bool
    same: Tensor  # (B, B) bool, True on the diagonal
    n_counted: int

    @property
    def n_tokens(self) -> int:
        """Positions of both texts, padding included."""
        return self.first_ids.numel() + self.second_ids.numel()


@dataclass(frozen=True)
class PrefixTreeInputs:
    """Sequences after the prefixes they share, for a model that `supports_prefix_tree`: R rows of L places. `places` says where
    the tokens of the N sequences stand in the flattened rows.
    """

    input_ids: Tensor  # (R, L) int64
    position_ids: Tensor  # (R, L) int64
    attention_mask: Tensor  # (R, 1, L, L) bool
    real_mask: Tensor  # (R, L) bool
    places: Tensor  # (N, S) int64


def branched(rows: PrefixTreeRows, device: torch.device) -> PrefixTreeInputs:
    """The rows as tensors on `device`, with their mask."""
    ids, positions, trees, branches, places = (
        torch.from_numpy(one).to(device) for one in vars(rows).values()
    )
    return PrefixTreeInputs(ids, positions, prefix_tree_mask(trees, branches), trees >= 0, places)


@dataclass(frozen=True)
class RankingMicroBatch:
    """Completions of rankings, N of them, those of one ranking together and the best first. Padding is on the right,
    so under causal attention no real token sees it.
    """

    input_ids: Tensor  # (N, T) int64
    target_ids: Tensor  # (N, T) int64
    loss_mask: Tensor  # (N, T) bool, True = the target is a token of the completion
    real_mask: Tensor  # (N, T) bool, False = padding
    group: Tensor  # (N,) int64, the ranking: 0, 1, ...
    place: Tensor  # (N,) int64, 0 = the best
    margins: Tensor  # (R,) float32
    reference: Tensor | None  # (N,) float32, log-probabilities of the completions under the reference
    n_counted: int  # rankings
    branched: PrefixTreeInputs | None = (
        None  # of the whole ids, prompts read once; None: a row for each completion
    )

    @property
    def n_tokens(self) -> int:
        """Positions that pass the network, padding included."""
        return (self.input_ids if self.branched is None else self.branched.input_ids).numel()

    @property
    def whole_ids(self) -> Tensor:
        """(N, T + 1): prompt and completion, the last token included."""
        return torch.cat([self.input_ids[:, :1], self.target_ids], 1)

    @property
    def whole_mask(self) -> Tensor:
        """(N, T + 1) bool, True = a real token of `whole_ids`."""
        return torch.cat([self.real_mask[:, :1], self.real_mask], 1)


@dataclass(frozen=True, kw_only=True)
class DistributionBatch(Batch):
    """A batch of tokens with a given distribution for each target: learned is not the one next token, but how
    likely each was.
    """

    target_logits: np.ndarray  # (B, T, V) float32, log-probabilities up to a constant


# Takes a model and its kind of micro-batch; returns the sum of the losses over what counts, in float32.
Objective = Callable[[Any, Any], Tensor]


def tensors(batch: TrainingBatch) -> dict[str, Tensor]:
    """The tensors of a micro-batch, by field."""
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}


def device_of(batch: TrainingBatch) -> torch.device:
    """Where a micro-batch is."""
    return next(iter(tensors(batch).values())).device


@singledispatch
def to_micro_batch(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
    """Move a batch of numpy arrays to `device` and give it its masks.

    `always_masked` gives masks to rows that need none, too: compiled code then meets one kind of batch.
    """
    raise TypeError(f"no micro-batch is made of {type(batch).__name__}; register one with to_micro_batch")


@to_micro_batch.register
def _tokens(batch: Batch, device: torch.device, always_masked: bool = False) -> MicroBatch:
    return MicroBatch(**_decoder_fields(batch, device, always_masked))


@to_micro_batch.register
def _distributions(
    batch: DistributionBatch, device: torch.device, always_masked: bool = False
) -> DistributionMicroBatch:
    named = _decoder_fields(batch, device, always_masked)
    return DistributionMicroBatch(**named, target_logits=torch.from_numpy(batch.target_logits).to(device))


@to_micro_batch.register
def _prefixes(batch: PrefixBatch, device: torch.device, always_masked: bool = False) -> MicroBatch:
    """Within the prefix attention goes both ways, behind it back only (Raffel et al. 2020, figure 4)."""
    named = _decoder_fields(batch, device, always_masked=True)
    documents = torch.from_numpy(batch.document_ids).to(device)
    in_prefix = torch.from_numpy(batch.prefix_mask).to(device)  # (B, T)
    both_ways = document_mask(documents, causal=False) & in_prefix[:, None, None, :]
    return MicroBatch(**named | {"attention_mask": named["attention_mask"] | both_ways})


@to_micro_batch.register
def _masked_tokens(batch: MaskedBatch, device: torch.device, always_masked: bool = False) -> MaskedMicroBatch:
    named = _decoder_fields(batch, device, always_masked)
    if named["attention_mask"] is not None:
        documents = torch.from_numpy(batch.document_ids).to(device)
        named["attention_mask"] = document_mask(documents, causal=False)
    return MaskedMicroBatch(**named)


@to_micro_batch.register
def _pairs(batch: PairBatch, device: torch.device, always_masked: bool = False) -> PairMicroBatch:
    real = batch.loss_mask if batch.document_ids is None else batch.document_ids >= 0
    source_mask = _unless_all(batch.source_mask, device)
    cross_mask = None if source_mask is None else _some_source(source_mask)
    masks: dict[str, Any] = {"source_mask": source_mask, "cross_mask": cross_mask, "attention_mask": None}
    positions: dict[str, Any] = {"source_position_ids": None, "position_ids": None}
    numbers = [batch.source_document_ids, batch.document_ids]
    if always_masked and (numbers[0] is None or numbers[1] is None):
        numbers = [np.where(batch.source_mask, 0, -1), np.where(real, 0, -1)]
    if numbers[0] is not None and numbers[1] is not None:
        sources, targets = (torch.from_numpy(side).to(device) for side in numbers if side is not None)
        masks = {
            "source_mask": document_mask(sources, causal=False),
            "cross_mask": _some_source(cross_document_mask(targets, sources)),
            "attention_mask": document_mask(targets),
        }
        positions = {
            "source_position_ids": torch.from_numpy(_restarting(numbers[0])).to(device),
            "position_ids": torch.from_numpy(_restarting(numbers[1])).to(device),
        }
    return PairMicroBatch(
        source_ids=torch.from_numpy(batch.source_ids).to(device),
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        target_ids=torch.from_numpy(batch.target_ids).to(device),
        loss_mask=_unless_all(batch.loss_mask, device),
        n_counted=batch.n_counted,
        source_real_mask=_unless_all(batch.source_mask, device),
        real_mask=_unless_all(real, device),
        **masks,
        **positions,
    )


@to_micro_batch.register
def _labelled(batch: LabelledBatch, device: torch.device, always_masked: bool = False) -> LabelledMicroBatch:
    types, mask = batch.token_type_ids, batch.loss_mask
    return LabelledMicroBatch(
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        attention_mask=_unless_all(batch.attention_mask, device, always_masked),
        token_type_ids=None if types is None else torch.from_numpy(types).to(device),
        labels=torch.from_numpy(batch.labels).to(device),
        loss_mask=None if mask is None else torch.from_numpy(mask).to(device),
        n_counted=batch.n_counted,
    )


@to_micro_batch.register
def _text_pairs(
    batch: TextPairBatch, device: torch.device, always_masked: bool = False
) -> TextPairMicroBatch:
    first, second = _numbered(batch)
    same = (first[:, None] == first) | (second[:, None] == second) | (first[:, None] == second)
    return TextPairMicroBatch(
        first_ids=torch.from_numpy(batch.first_ids).to(device),
        first_mask=_unless_all(batch.first_mask, device, always_masked),
        second_ids=torch.from_numpy(batch.second_ids).to(device),
        second_mask=_unless_all(batch.second_mask, device, always_masked),
        same=torch.from_numpy(same).to(device),
        n_counted=batch.n_counted,
    )


@to_micro_batch.register
def _rankings(batch: RankingBatch, device: torch.device, always_masked: bool = False) -> RankingMicroBatch:
    there = batch.real_mask.any(-1)  # (R, K): places that hold a completion
    group, place = np.nonzero(there)
    named = {
        name: torch.from_numpy(getattr(batch, name)[there]).to(device)
        for name in ("input_ids", "target_ids", "loss_mask", "real_mask")
    }
    laid = None
    if batch.share_prompts:
        ids, targets, counted, real = (
            one[there] for one in (batch.input_ids, batch.target_ids, batch.loss_mask, batch.real_mask)
        )
        rows, n = np.arange(len(ids)), real.sum(1)
        whole = np.pad(ids, ((0, 0), (0, 1)))  # of inputs: a target that does not count must not be read
        whole[rows, n] = targets[rows, n - 1]  # what a completion ends with is no input
        laid = branched(pack_prefix_trees(whole, n + 1, counted.argmax(1) + 1), device)
    return RankingMicroBatch(
        **named,
        branched=laid,
        group=torch.from_numpy(group).to(device),
        place=torch.from_numpy(place).to(device),
        margins=torch.from_numpy(batch.margins).to(device),
        reference=None if batch.reference is None else torch.from_numpy(batch.reference[there]).to(device),
        n_counted=batch.n_counted,
    )


def _decoder_fields(batch: Batch, device: torch.device, always_masked: bool) -> dict[str, Any]:
    """Of a batch of tokens; packed documents get a block-diagonal causal mask."""
    attention_mask = position_ids = None
    if always_masked or not batch.single_document:
        attention_mask = document_mask(torch.from_numpy(batch.document_ids).to(device))
        position_ids = torch.from_numpy(batch.position_ids).to(device)
    all_count = batch.n_counted == batch.loss_mask.size
    return {
        "input_ids": torch.from_numpy(batch.input_ids).to(device),
        "target_ids": torch.from_numpy(batch.target_ids).to(device),
        "loss_mask": None if all_count else torch.from_numpy(batch.loss_mask).to(device),
        "position_ids": position_ids,
        "attention_mask": attention_mask,
        "n_counted": batch.n_counted,
        "real_mask": None if all_count else _unless_all(batch.document_ids >= 0, device),
    }


def _unless_all(marks: np.ndarray, device: torch.device, always: bool = False) -> Tensor | None:
    """None where every place is True: plain attention and whole losses cost less."""
    return None if marks.all() and not always else torch.from_numpy(marks).to(device)


def _restarting(document_ids: np.ndarray) -> np.ndarray:
    """Positions (B, T) that begin at 0 with each document."""
    columns = np.broadcast_to(np.arange(document_ids.shape[1]), document_ids.shape)
    begins = np.ones(document_ids.shape, bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return columns - np.maximum.accumulate(np.where(begins, columns, 0), axis=1)


def _some_source(cross_mask: Tensor) -> Tensor:
    """A target without a source, which is padding or counts nothing, looks at all of the row: a softmax over
    nothing would be 0 / 0.
    """
    return cross_mask | ~cross_mask.any(-1, keepdim=True)


def _numbered(batch: TextPairBatch) -> tuple[np.ndarray, np.ndarray]:
    """A number for each text of both sides, (B,) each; equal texts have equal numbers."""
    numbers: dict[bytes, int] = {}

    def side(ids: np.ndarray, real: np.ndarray) -> np.ndarray:
        texts = [row[mask].astype(np.int64).tobytes() for row, mask in zip(ids, real, strict=True)]
        return np.array([numbers.setdefault(text, len(numbers)) for text in texts])

    return side(batch.first_ids, batch.first_mask), side(batch.second_ids, batch.second_mask)
