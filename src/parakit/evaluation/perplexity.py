"""Exact loss, perplexity and bits per byte.

A document has the ids around it that its tokenizer adds to a text. Every token counts except a document's first, and with
Parakit's own tokenizers its EOS: the figure is the length of a code for the documents and where they end. A published
model's EOS may end a turn rather than a text, and counts only where its tokenizer adds it.

Nats are summed in float64 over the whole split, so batch size does not matter. Bits per byte divides
by the bytes of the raw text, not of the decoded tokens, and compares models of different vocabularies. Left out: a window
that moves by one token a step.

Shapes: B rows, T tokens, D width, N counted tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.nn import functional

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.inference.batching import evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.model.heads import LanguageModel
from parakit.model.layers.masks import document_mask
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.source import evaluation_batches
from parakit.tokens.shards import TokenShards, document_boundaries, encode_between
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

TOKENS_PER_FORWARD = 8192
TOKENS_PER_HEAD = 2048  # logits are (N, vocab_size), the widest tensor
DOCUMENTS_PER_BATCH = 1000
MAX_UNCUT_CHARS = (
    2_000_000  # a text is one document up to here, so that windows alone decide what a token sees
)


@dataclass(frozen=True)
class LossResult:
    """Exact loss of one model on one text. `bits_per_byte` is None where only a part of the tokens counts."""

    loss_nats_per_token: float
    perplexity: float
    bits_per_byte: float | None
    n_tokens: int
    """Counted tokens: all but each document's first."""
    n_bytes: int
    """Bytes of the raw text of the counted tokens; in conversations, of the assistant's text."""
    n_unknown: int = 0
    """Counted tokens that are UNK; they hide text, which makes bits per byte too low."""


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
    tokens of context. `advance` is called with the number of counted tokens of each batch. `UserError` where the loss is
    not finite or the model does not predict next tokens.
    """
    require_capability(model, "log_likelihood")
    window = model.config.max_seq_len
    seq_len = window if seq_len is None else seq_len
    if seq_len > window:
        raise UserError(
            f"seq_len {seq_len} is over the model's context window of {window} tokens", "lower it"
        )
    rows = rows_per_batch or max(1, TOKENS_PER_FORWARD // seq_len)
    nats, n_tokens, n_unknown = 0.0, 0, 0
    with evaluation_mode(model):
        for batch in evaluation_batches(shards, seq_len, rows, overlap):
            losses, targets = token_losses(model, batch)
            nats += float(losses.sum(dtype=torch.float64))
            n_tokens += batch.n_counted
            n_unknown += 0 if unk_id is None else int((targets == unk_id).sum())
            if advance is not None:
                advance(batch.n_counted)
    return _result(nats, n_tokens, shards.n_bytes, n_unknown)


def token_losses(model: LanguageModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss in nats (N,) of every counted token of a batch, and the tokens (N,). Packed documents are isolated."""
    device = model.lm_head.weight.device
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
    for vectors, chunk_targets in zip(
        hidden.split(TOKENS_PER_HEAD), targets.split(TOKENS_PER_HEAD), strict=True
    ):
        logits = model.logits(vectors)
        logits = logits if logits.dtype == torch.float64 else logits.float()
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
    config: TextConfig | None = None,
    advance: OnProgress | None = None,
) -> LossResult:
    """Evaluate a model on raw text, read and encoded like a corpus, but with duplicates and not cut into documents.

    Raises `UserError` as the readers do: a missing path, a binary file, no text at all.
    """
    config = config or TextConfig()
    uncut = max(config.max_document_chars, MAX_UNCUT_CHARS)
    config = config.replace(paths=tuple(paths), deduplicate=False, max_document_chars=uncut)
    text = encode_documents(tokenizer, read_documents(config, ReadReport()))
    if text.n_bytes == 0:
        raise UserError(f"{', '.join(paths)}: no text to evaluate on", "name files with text")
    return evaluate_loss(
        model,
        text,
        seq_len=seq_len,
        overlap=overlap,
        rows_per_batch=rows_per_batch,
        unk_id=tokenizer.unk_id,
        advance=advance,
    )


def encode_documents(tokenizer: Tokenizer, documents: Iterable[Document]) -> TokenShards:
    """Documents as token shards in memory: a decoder's documents, without the EOS that a published tokenizer does not
    add to a text.
    """
    own = tokenizer.special.is_parakit_default
    boundaries = document_boundaries(tokenizer, "decoder") if own else text_boundaries(tokenizer)
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
    )


def _groups(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    remaining = iter(documents)
    while group := list(islice(remaining, size)):
        yield group


def _result(nats: float, n_tokens: int, n_bytes: int, n_unknown: int) -> LossResult:
    if n_tokens == 0:
        raise UserError("this text has no token to predict", "use a longer text")
    if not math.isfinite(nats):
        raise UserError(f"the model's loss is {nats}", "its weights are corrupt, or its training diverged")
    loss = nats / n_tokens
    return LossResult(
        loss_nats_per_token=loss,
        perplexity=math.exp(min(loss, 700.0)),  # the largest that a float holds is e^709
        bits_per_byte=nats / math.log(2) / n_bytes if n_bytes else None,
        n_tokens=n_tokens,
        n_bytes=n_bytes,
        n_unknown=n_unknown,
    )
