"""Exact loss, perplexity and bits per byte.

The figures are those of the text alone: every token of it counts but a first one that nothing precedes. What the end of
a document costs is a figure of its own, because it is no text and a published chat model's EOS ends a turn: it costs 20
nats after a document. In conversations the ends of the assistant's turns count in the loss, and not in bits per byte.

Nats are summed in float64 over the whole split, so batch size does not matter. Bits per byte divides by the bytes of the
raw text, not of the decoded tokens, and compares models of different vocabularies. A file is one document, read in windows
(`packing.windows`); with `text_start="bos"` the figure is lm-eval's rolling log-likelihood.

Shapes: B rows, T tokens, D width, N counted tokens.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import OnProgress, log
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.evaluation.intervals import bootstrap_mean
from parakit.inference.batching import evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.model.heads import LanguageModel
from parakit.model.layers.masks import document_mask
from parakit.model.precision import at_least_float32
from parakit.model.quantized import weight_like
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.source import evaluation_batches
from parakit.tokens.shards import TokenShards, document_boundaries, encode_between
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

TOKENS_PER_FORWARD = 8192
TOKENS_PER_HEAD, LOGITS_PER_HEAD = 2048, 2**22  # at a time: logits are (N, vocab_size), the widest tensor
DOCUMENTS_PER_BATCH = 1000
FEW_DOCUMENTS, MIN_BLOCKS, MAX_BLOCKS = 30, 64, 1000
N_RESAMPLES = 400
TextStart = Literal["tokenizer", "bos"]


@dataclass(frozen=True)
class LossResult:
    """Exact loss of one model on one text. `bits_per_byte` is None where only a part of the text is measured."""

    loss_nats_per_token: float
    perplexity: float
    bits_per_byte: float | None
    n_tokens: int
    """Tokens of `loss_nats_per_token`: of the text alone, or of the assistant's turns and their ends."""
    n_bytes: int
    """Bytes of the raw text of the counted tokens; in conversations, of the assistant's text."""
    n_unknown: int = 0
    """Counted tokens that are UNK; they hide text, which makes bits per byte too low."""
    counted: Literal["text", "turns"] = "text"
    n_documents: int = 0
    n_end_tokens: int = 0
    """End tokens of documents or turns. They are in `n_tokens` and `loss_nats_per_token` only where `counted` is "turns"."""
    end_nats_per_token: float | None = None
    low: float | None = None
    """A 95 % interval of `loss_nats_per_token`: what another sample of such text would give (see `blocks_of`)."""
    high: float | None = None
    text_digest: str = ""
    block_nats: tuple[float, ...] = field(default=(), repr=False)
    """Nats by block of the text, for paired comparisons; `block_tokens`: their counted tokens."""
    block_tokens: tuple[int, ...] = field(default=(), repr=False)

    @property
    def objective(self) -> float:
        """Nats per counted token with the end tokens: what training minimises."""
        if self.counted == "turns" or self.end_nats_per_token is None:
            return self.loss_nats_per_token
        nats = self.loss_nats_per_token * self.n_tokens + self.end_nats_per_token * self.n_end_tokens
        return nats / (self.n_tokens + self.n_end_tokens)

    def figures(self) -> JsonObject:
        """Plain data without what only a comparison needs."""
        return without_blocks(asdict(self))


def without_blocks(fields: Mapping[str, Any]) -> JsonObject:
    """A `LossResult`'s fields without what only a comparison needs."""
    return {
        name: value
        for name, value in fields.items()
        if name not in ("block_nats", "block_tokens", "text_digest")
    }


@torch.inference_mode()
def evaluate_loss(
    model: LanguageModel,
    shards: TokenShards,
    *,
    seq_len: int | None = None,
    overlap: int = 0,
    rows_per_batch: int | None = None,
    unk_id: int | None = None,
    advance: OnProgress | None = None,
) -> LossResult:
    """Evaluate a model on a whole split.

    Documents longer than `seq_len` (None: the model's window) are split into windows; each after the first has `overlap`
    tokens of context, and the last as many as fit. `advance` is called with the number of counted tokens of each batch.
    `UserError` where the loss is not finite or the model does not predict next tokens.
    """
    require_capability(model, "log_likelihood")
    window = model.config.max_seq_len
    seq_len = window if seq_len is None else seq_len
    if seq_len > window:
        raise UserError(
            f"seq_len {seq_len} is over the model's context window of {window} tokens",
            f"lower seq_len to {window}",
        )
    rows = rows_per_batch or max(1, TOKENS_PER_FORWARD // seq_len)
    sums = _LossSums(shards)
    n_unknown = 0
    with evaluation_mode(model):
        for batch in evaluation_batches(shards, seq_len, rows, overlap, _n_ends(shards)):
            losses, targets = token_losses(model, batch)
            sums.add(losses.double().cpu().numpy(), targets.cpu().numpy(), batch.counted_targets)
            n_unknown += 0 if unk_id is None else int((targets == unk_id).sum())
            if advance is not None:
                advance(batch.n_counted)
    return sums.result(n_unknown)


def token_losses(model: LanguageModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss in nats (N,) of every counted token of a batch, and the tokens (N,). Packed documents are isolated."""
    device = weight_like(model.lm_head).device
    counted = torch.from_numpy(batch.loss_mask).to(device)
    targets = torch.from_numpy(batch.target_ids).to(device)[counted]  # (N,)
    attention_mask = None
    if not batch.single_document:
        attention_mask = document_mask(torch.from_numpy(batch.document_ids).to(device))
    hidden = model.hidden(
        torch.from_numpy(batch.input_ids).to(device),
        position_ids=torch.from_numpy(batch.position_ids).to(device),
        attention_mask=attention_mask,
    )[counted]  # (N, D)
    losses = []
    n_rows = min(TOKENS_PER_HEAD, max(1, LOGITS_PER_HEAD // model.config.vocab_size))
    for vectors, chunk_targets in zip(hidden.split(n_rows), targets.split(n_rows), strict=True):
        logits = model.logits(vectors)
        logits = at_least_float32(logits)
        losses.append(functional.cross_entropy(logits, chunk_targets, reduction="none"))
    return (torch.cat(losses) if losses else hidden.new_zeros(0)), targets


def evaluate_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    paths: Sequence[str],
    *,
    seq_len: int | None = None,
    overlap: int = 0,
    rows_per_batch: int | None = None,
    max_document_chars: int | None = None,
    text_start: TextStart = "tokenizer",
    advance: OnProgress | None = None,
) -> LossResult:
    """Evaluate a model on raw text as it is in the files: nothing is normalized or left out as a duplicate.

    A file is one document, and so is a row of JSON lines or Parquet; `max_document_chars` cuts longer ones, each with
    nothing before it. What could not be read is logged. Raises `UserError` as the readers do: a missing path, a binary
    file, no text at all.
    """
    config = TextConfig(
        paths=tuple(paths),
        deduplicate=False,
        newlines="keep",
        strip_gutenberg=False,
        max_document_chars=max_document_chars or sys.maxsize,
    )
    report, digest = ReadReport(), hashlib.sha256()
    documents = _digested(read_documents(config, report), digest)
    text = encode_documents(tokenizer, documents, text_start)
    if text.n_bytes == 0:
        raise UserError(f"{', '.join(paths)}: no text to evaluate on", "name files with text")
    for line in _skipped_text(report):
        log(line)
    found = evaluate_loss(
        model,
        text,
        seq_len=seq_len,
        overlap=overlap,
        rows_per_batch=rows_per_batch,
        unk_id=tokenizer.unk_id,
        advance=advance,
    )
    return replace(found, text_digest=digest.hexdigest())


def _digested(documents: Iterable[Document], digest: hashlib._Hash) -> Iterator[Document]:
    for document in documents:
        digest.update(bytes.fromhex(document.digest))
        yield document


def _skipped_text(report: ReadReport) -> list[str]:
    """What of the named files is not in the figure, or not as it is in the file."""
    counts = {
        "files left out": sum(report.skipped.values()),
        "rows that cannot be read": report.broken_rows,
        "lines over the limit left out": report.long_lines,
        "bytes that are not UTF-8, measured as a replacement character": report.bad_bytes,
    }
    counts |= {f"files read as {name}": n for name, n in report.encodings.items() if name.lower() != "utf-8"}
    return [f"evaluated text: {n:,} {what}" for what, n in counts.items() if n]


def encode_documents(
    tokenizer: Tokenizer, documents: Iterable[Document], text_start: TextStart = "tokenizer"
) -> TokenShards:
    """Documents as token shards in memory: a decoder's documents, without the EOS that a published tokenizer does not
    add to a text. With `text_start` "bos", BOS (EOS where there is none) is put before a text that nothing precedes.
    """
    own = tokenizer.special.is_parakit_default
    boundaries = document_boundaries(tokenizer, "decoder") if own else text_boundaries(tokenizer)
    if text_start == "bos" and not boundaries[0]:
        boundaries = (_start_id(tokenizer), boundaries[1])
    pieces, lengths, n_bytes = [np.zeros(0, np.uint32)], [0], 0
    for group in _groups(documents, DOCUMENTS_PER_BATCH):
        ids, n_group_bytes = encode_between(tokenizer, group, boundaries)
        pieces += ids
        lengths += map(len, ids)
        n_bytes += n_group_bytes
    return TokenShards(
        token_ids=np.concatenate(pieces),
        offsets=np.cumsum(lengths, dtype=np.int64),
        n_bytes=n_bytes,
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        tokenizer_digest=tokenizer.digest,
        end_ids=tuple(boundaries[1]),
    )


def _start_id(tokenizer: Tokenizer) -> list[int]:
    start = tokenizer.start_id
    if start is None:
        raise UserError(
            "this tokenizer has neither BOS nor EOS to put before a text", "use text_start: tokenizer"
        )
    return [start]


def _groups(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    remaining = iter(documents)
    while group := list(islice(remaining, size)):
        yield group


def _n_ends(shards: TokenShards) -> np.ndarray | int:
    """How many end tokens each document ends with; in conversations they are part of what is read."""
    if shards.loss_mask is not None or not shards.end_ids:
        return 0
    last, before = shards.offsets[1:] - 1, shards.offsets[:-1]
    n_ends = np.zeros(shards.n_documents, np.int64)
    for n in range(len(shards.end_ids)):
        inside = np.flatnonzero((n_ends == n) & (last - n > before))  # a first token is predicted by none
        n_ends[inside] += np.isin(shards.token_ids[last[inside] - n], shards.end_ids)
    return n_ends


def blocks_of(offsets: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, int]:
    """The block of each token position, and the number of blocks: documents, up to `MAX_BLOCKS` groups of neighbours;
    of fewer than `FEW_DOCUMENTS`, equal parts of each. Two tokenizers cut the same documents at about the same places.
    """
    n_documents = len(offsets) - 1
    document = np.searchsorted(offsets, positions, "right") - 1
    if n_documents >= FEW_DOCUMENTS:
        n_blocks = min(n_documents, MAX_BLOCKS)
        return document * n_blocks // n_documents, n_blocks
    n_parts = -(-MIN_BLOCKS // max(n_documents, 1))
    length = np.maximum(np.diff(offsets)[document], 1)
    return document * n_parts + (positions - offsets[document]) * n_parts // length, n_parts * n_documents


class _LossSums:
    """Sums of nats: by block of what the loss counts (`LossResult.counted`), and of the end tokens."""

    def __init__(self, shards: TokenShards) -> None:
        self.shards = shards
        self.counts_ends = shards.loss_mask is not None
        self.end_ids = np.array(shards.end_ids, np.int64)
        n_blocks = blocks_of(shards.offsets, np.zeros(0, np.int64))[1]
        self.nats, self.n = np.zeros(n_blocks), np.zeros(n_blocks, np.int64)
        self.end_nats, self.n_end = 0.0, 0

    def add(self, losses: np.ndarray, targets: np.ndarray, positions: np.ndarray) -> None:
        """Losses in nats (N,), their tokens, and where these are in the split."""
        is_end = np.isin(targets, self.end_ids)
        self.end_nats += float(losses[is_end].sum())
        self.n_end += int(is_end.sum())
        chosen = slice(None) if self.counts_ends else ~is_end
        block, _ = blocks_of(self.shards.offsets, positions[chosen])
        np.add.at(self.nats, block, losses[chosen])
        np.add.at(self.n, block, 1)

    def result(self, n_unknown: int) -> LossResult:
        """The figures; `UserError` where there are none."""
        nats, n_tokens, n_bytes = math.fsum(self.nats), int(self.n.sum()), self.shards.n_bytes
        if n_tokens == 0:
            raise UserError("this text has no token to predict", "use a longer text")
        if not math.isfinite(nats + self.end_nats):
            raise UserError(
                f"the model's loss is {nats}", "its weights are corrupt, or its training diverged"
            )
        loss = nats / n_tokens
        text_nats = nats - self.end_nats if self.counts_ends else nats
        between = bootstrap_mean(self.nats, self.n, n_resamples=N_RESAMPLES)
        return LossResult(
            loss_nats_per_token=loss,
            perplexity=math.exp(min(loss, 700.0)),  # the largest that a float holds is e^709
            bits_per_byte=text_nats / math.log(2) / n_bytes if n_bytes else None,
            n_tokens=n_tokens,
            n_bytes=n_bytes,
            n_unknown=n_unknown,
            counted="turns" if self.counts_ends else "text",
            n_documents=self.shards.n_documents,
            n_end_tokens=self.n_end,
            end_nats_per_token=self.end_nats / self.n_end if self.n_end else None,
            low=between.low,
            high=between.high,
            block_nats=tuple(self.nats.tolist()),
            block_tokens=tuple(self.n.tolist()),
        )
