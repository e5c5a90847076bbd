"""Batches of examples: a pure function of (seed, row number), endless, each example once an epoch.

Special tokens are added here, and texts are padded to the longest of the batch. Of an example that is too long the text
is truncated, its special tokens kept; or it is left out, or refused (`long_rows.py`). B examples, T tokens, S source tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens.batches.batch import LabelledBatch, PairBatch, TextPairBatch
from parakit.tokens.batches.length_groups import GROUPS_PER_POOL, LengthGroups
from parakit.tokens.config import LongRowRule
from parakit.tokens.examples.layout import PaddedTexts, merge_rows, pad_texts
from parakit.tokens.examples.shards import EncodedTexts, ExampleShards
from parakit.tokens.long_rows import RowKind, by_seq_len, fit_rows
from parakit.tokens.tokenizer.special_tokens_template import SpecialTokensTemplate, truncate_pair

TRANSLATIONS = RowKind("examples", "targets", "cut in the source")
LABELLED = RowKind("examples", "labels", "cut")
TAGGED = RowKind("examples", "rows of tags", "cut")
QUESTIONS = RowKind(
    "examples",
    "answers",
    "read in a window around the answer",
    "left out, whose answer is longer than a window",
)


@dataclass(frozen=True)
class LengthGrouping:
    """How long texts are handled, and how rows are grouped by length. `window`: the longest row that the model reads, for
    messages.
    """

    too_long: LongRowRule
    n_rows_hint: int
    groups_per_pool: int
    window: int | None


@dataclass(frozen=True)
class LimitedLengths:
    """Lengths in tokens of one side of every example, special tokens included, and the limit of a row."""

    lengths: np.ndarray  # (n_examples,)
    limit: int


BatchT = TypeVar("BatchT", PairBatch, LabelledBatch, TextPairBatch)


class ExampleSource(ABC, Generic[BatchT]):
    """Base class. `n_rows_hint` is the number of rows of a step; rows of one step have similar lengths.
    `tokens_per_row` is the mean, special tokens included.
    """

    def __init__(
        self,
        shards: ExampleShards,
        seed: int,
        texts: Sequence[LimitedLengths],
        kind: RowKind,
        grouping: LengthGrouping,
        counted: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """`counted`: of each example what counts, whole and cut; None: every label does, however much text is cut."""
        self.shards, self.seed, self.pad_id = shards, seed, shards.pad_id or 0
        limit = texts[0].limit
        whole = limit + np.max([text.lengths - text.limit for text in texts], axis=0)
        all_counted, left = counted or (np.ones(len(whole), np.int64),) * 2
        stays, self.long_rows = fit_rows(
            kind,
            whole,
            limit,
            grouping.too_long,
            counted=all_counted,
            counted_left=left,
            shortest=whole,
            way_out=by_seq_len(grouping.window),
        )
        self._examples = np.flatnonzero(stays)
        lengths = np.stack([np.minimum(text.lengths, text.limit) for text in texts])[:, stays]
        # A batch is as wide as its longest row on either side, so the longer side decides.
        self._order_by = lengths.max(0) + lengths.sum(0) / (2 * lengths.sum(0).max(initial=1))
        self._groups = LengthGroups(self._order_by, seed, grouping.n_rows_hint, grouping.groups_per_pool)
        self.rows_per_epoch = float(len(self._examples))
        self.tokens_per_row = float(lengths.sum(0).mean())

    @abstractmethod
    def batch_of(self, examples: Sequence[int] | np.ndarray) -> BatchT:
        """These examples as one batch, in this order."""

    def rows(self, start_row: int, n_rows: int) -> BatchT:
        """Rows `start_row` to `start_row + n_rows - 1`, a pure function of the seed."""
        return self.batch_of(self._examples[self._groups.examples(start_row, n_rows)])

    def epoch_of(self, row: int) -> float:
        """How many epochs have been seen before `row`."""
        return row / self.rows_per_epoch

    def one_pass(self, rows_per_batch: int) -> Iterator[tuple[np.ndarray, BatchT]]:
        """Every example that stays once, in a fixed order, the longest first: (indices of the examples, their batch)."""
        order = self._examples[np.argsort(-self._order_by, kind="stable")]
        for start in range(0, len(order), rows_per_batch):
            numbers = order[start : start + rows_per_batch]
            yield numbers, self.batch_of(numbers)

    def _pad(
        self, template: SpecialTokensTemplate, key: str, examples: np.ndarray, limit: int
    ) -> PaddedTexts:
        """One text of each example, its first `limit` tokens."""
        texts = self.shards.texts[key]
        kept = np.minimum(texts.lengths[examples], limit)
        return pad_texts(template, [texts], examples, [kept], self.pad_id)


class PairSource(ExampleSource[PairBatch]):
    """Sources and targets (translate). Every target ends with EOS, unless it was truncated.

    `frames`: the special tokens around a source and around a target; default: those of the shards, and EOS.
    """

    def __init__(
        self,
        shards: ExampleShards,
        max_source_len: int,
        max_target_len: int,
        seed: int,
        decoder_start_id: int,
        *,
        frames: tuple[SpecialTokensTemplate, SpecialTokensTemplate] | None = None,
        too_long: LongRowRule = "truncate",
        n_rows_hint: int = 64,
        groups_per_pool: int = GROUPS_PER_POOL,
        window: int | None = None,
    ) -> None:
        check_task(shards, ("translate",))
        assert shards.eos_id is not None
        self.decoder_start_id = decoder_start_id
        template = shards.templates[0]
        self.template, self.target_frame = frames or (template, _with_eos(template, shards.eos_id))
        self.max_source_len, self.max_target_len = max_source_len, max_target_len
        check_limit("max_source_len", max_source_len, self.template)
        check_limit("max_target_len", max_target_len, self.target_frame)
        sides = [
            LimitedLengths(shards.texts["source"].lengths + self.template.n_tokens, max_source_len),
            LimitedLengths(shards.texts["target"].lengths + self.target_frame.n_tokens, max_target_len),
        ]
        counted = sides[1].lengths, np.minimum(sides[1].lengths, max_target_len)
        grouping = LengthGrouping(too_long, n_rows_hint, groups_per_pool, window)
        super().__init__(shards, seed, sides, TRANSLATIONS, grouping, counted)

    def batch_of(self, examples: Sequence[int] | np.ndarray) -> PairBatch:
        examples = np.asarray(examples)
        source = self._pad(self.template, "source", examples, self.max_source_len - self.template.n_tokens)
        target = self._pad(self.target_frame, "target", examples, self.max_target_len)
        target = target.truncate(self.max_target_len)
        input_ids = np.full_like(target.token_ids, self.decoder_start_id)
        input_ids[:, 1:] = target.token_ids[:, :-1]
        input_ids[~target.real] = self.pad_id
        return PairBatch(
            source_ids=source.token_ids,
            source_mask=source.real,
            input_ids=input_ids,
            target_ids=target.token_ids,
            loss_mask=target.real,
            n_counted=int(target.real.sum()),
        )


class LabelledSource(ExampleSource[LabelledBatch]):
    """Texts with classes, labels, tags or scores (classify, multi_label, tag, regress). Of two texts the longer is truncated
    first.
    """

    def __init__(
        self,
        shards: ExampleShards,
        max_seq_len: int,
        seed: int,
        *,
        too_long: LongRowRule = "truncate",
        n_rows_hint: int = 64,
        groups_per_pool: int = GROUPS_PER_POOL,
        window: int | None = None,
    ) -> None:
        check_task(shards, ("classify", "multi_label", "tag", "regress"))
        self.max_seq_len, self._key = max_seq_len, "words" if shards.task == "tag" else "text"
        self._pairs = shards.texts.get("text_pair")
        single, pair = shards.templates
        self.has_types = self._pairs is not None and pair.has_types
        check_limit("max_seq_len", max_seq_len, single if self._pairs is None else pair)
        lengths = shards.texts[self._key].lengths + single.n_tokens
        if self._pairs is not None:
            lengths = (
                lengths + self._pairs.lengths + (self._pairs.lengths > 0) * (pair.n_tokens - single.n_tokens)
            )
        counted = _tagged(shards, max_seq_len - single.n_tokens) if shards.task == "tag" else None
        grouping, limited = (
            LengthGrouping(too_long, n_rows_hint, groups_per_pool, window),
            LimitedLengths(lengths, max_seq_len),
        )
        super().__init__(shards, seed, [limited], TAGGED if counted else LABELLED, grouping, counted)

    def batch_of(self, examples: Sequence[int] | np.ndarray) -> LabelledBatch:
        examples = np.asarray(examples)
        rows = self._rows(examples)
        labels, loss_mask = self._targets(examples, rows.real.shape)
        return LabelledBatch(
            input_ids=rows.token_ids,
            attention_mask=rows.real,
            token_type_ids=rows.types if self.has_types else None,
            labels=labels,
            loss_mask=loss_mask,
            n_counted=len(examples) if loss_mask is None else int(loss_mask.sum()),
        )

    def _rows(self, examples: np.ndarray) -> PaddedTexts:
        single, pair = self.shards.templates
        is_pair = np.zeros(len(examples), np.bool_)
        if self._pairs is not None:
            is_pair = self._pairs.lengths[examples] > 0
        alone = self._pad(single, self._key, examples[~is_pair], self.max_seq_len - single.n_tokens)
        if self._pairs is None or not is_pair.any():
            return alone
        texts, numbers = [self.shards.texts[self._key], self._pairs], examples[is_pair]
        limit = self.max_seq_len - pair.n_tokens
        lengths = np.stack([text.lengths[numbers] for text in texts], axis=1)
        kept = np.array([truncate_pair(row, limit) for row in lengths.tolist()]).T
        both = pad_texts(pair, texts, numbers, list(kept), self.pad_id)
        return merge_rows(alone, both, is_pair, self.pad_id) if not is_pair.all() else both

    def _targets(self, examples: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray | None]:
        assert self.shards.targets is not None
        if self.shards.task == "multi_label":
            return self.shards.targets[examples].astype(np.float32), None
        if self.shards.task != "tag":
            return np.array(self.shards.targets[examples]), None
        tags, first = np.full(shape, -1, np.int64), len(self.shards.templates[0].parts[0])
        limit, offsets = (
            self.max_seq_len - self.shards.templates[0].n_tokens,
            self.shards.texts["words"].offsets,
        )
        for row, i in enumerate(examples):
            own = self.shards.targets[offsets[i] : offsets[i + 1]][:limit]
            tags[row, first : first + len(own)] = own
        return np.maximum(tags, 0), tags >= 0


class QuestionSource(ExampleSource[LabelledBatch]):
    """Questions and contexts, with the first and the last token of the answer (answer); both are 0, the first special
    token, where the context has none. Of a context that is too long, the first window that holds the answer is read,
    each beginning half a window after the one before; a question has half of the row at most.
    """

    def __init__(
        self,
        shards: ExampleShards,
        max_seq_len: int,
        seed: int,
        *,
        too_long: LongRowRule = "truncate",
        n_rows_hint: int = 64,
        groups_per_pool: int = GROUPS_PER_POOL,
        window: int | None = None,
    ) -> None:
        check_task(shards, ("answer",))
        self.max_seq_len, self.template = max_seq_len, shards.templates[1]
        check_limit("max_seq_len", max_seq_len, self.template)
        self._questions, self._contexts = shards.texts["question"], shards.texts["context"]
        lengths = self._questions.lengths + self._contexts.lengths + self.template.n_tokens
        grouping = LengthGrouping(too_long, n_rows_hint, groups_per_pool, window)
        spans = np.array(shards.targets)
        _, n_window = self._limits(np.arange(shards.n_examples))
        fits = (spans[:, 0] < 0) | (spans[:, 1] - spans[:, 0] < n_window)
        counted = np.ones(len(fits), np.int64), fits.astype(np.int64)
        super().__init__(shards, seed, [LimitedLengths(lengths, max_seq_len)], QUESTIONS, grouping, counted)

    def _limits(self, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each question that are read, and of a window of its context."""
        room = self.max_seq_len - self.template.n_tokens
        n_question = np.minimum(self._questions.lengths[examples], room // 2)
        return n_question, room - n_question

    def batch_of(self, examples: Sequence[int] | np.ndarray) -> LabelledBatch:
        examples = np.asarray(examples)
        assert self.shards.targets is not None
        spans = np.array(self.shards.targets[examples])
        n_question, n_window = self._limits(examples)
        n_context = self._contexts.lengths[examples]
        begin = answer_window(spans, n_context, n_window)
        texts = [
            _shifted(text, examples, first)
            for text, first in ((self._questions, 0 * begin), (self._contexts, begin))
        ]
        kept = [n_question, np.minimum(n_context - begin, n_window)]
        rows = pad_texts(self.template, texts, np.arange(len(examples)), kept, self.pad_id)
        before = len(self.template.parts[0]) + n_question + len(self.template.parts[1])
        inside = (spans[:, 0] >= begin) & (spans[:, 1] < begin + kept[1])
        return LabelledBatch(
            input_ids=rows.token_ids,
            attention_mask=rows.real,
            token_type_ids=rows.types if self.template.has_types else None,
            labels=np.where(inside[:, None], spans - begin[:, None] + before[:, None], 0),
            loss_mask=None,
            n_counted=len(examples),
        )


def answer_window(spans: np.ndarray, lengths: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The first token of the window of each context: spans (B, 2), lengths and limits (B,) -> (B,). The first window of
    `limits` tokens that holds the answer; the very first where there is none, or where the answer is longer.
    """
    stride = np.maximum(1, limits // 2)
    last = np.maximum(0, -(-(lengths - limits) // stride))  # number of the last window
    number = np.clip(-(-(spans[:, 1] + 1 - limits) // stride), 0, last)
    begin = np.minimum(number * stride, np.maximum(0, lengths - limits))
    return np.where((spans[:, 0] >= begin) & (spans[:, 1] < begin + limits), begin, 0)


def _shifted(text: EncodedTexts, examples: np.ndarray, begin: np.ndarray) -> EncodedTexts:
    """`examples` alone, each from its token `begin` on."""
    return EncodedTexts(text.token_ids, text.offsets[examples] + begin)


def _with_eos(template: SpecialTokensTemplate, eos_id: int) -> SpecialTokensTemplate:
    """The template of a target: that of a text, with EOS at its end."""
    before, after = template.parts
    return template if after[-1:] == (eos_id,) else template.with_parts(before, (*after, eos_id))


def _tagged(shards: ExampleShards, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Tagged words of each example, and those that begin among its first `limit` tokens."""
    offsets = shards.texts["words"].offsets
    before = np.concatenate([[0], np.cumsum(np.asarray(shards.targets) >= 0)])
    begin, end = offsets[:-1], offsets[1:]
    return before[end] - before[begin], before[np.minimum(end, begin + limit)] - before[begin]


def check_limit(name: str, limit: int, template: SpecialTokensTemplate) -> None:
    """`UserError` for a limit that special tokens alone reach."""
    if limit <= template.n_tokens:
        raise UserError(
            f"{name} {limit} leaves no tokens for text besides {template.n_tokens} special tokens",
            f"raise {name} to {template.n_tokens + 1}",
        )


def check_task(shards: ExampleShards, tasks: tuple[str, ...]) -> None:
    """`UserError` for examples of another task."""
    if shards.task not in tasks:
        raise UserError(
            f"these are examples of {shards.task}, not of {' or '.join(tasks)}",
            "use a folder of such examples",
        )
