"""What noising starts from: documents encoded for each family, rows in which each token is its own target."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from parakit.common.errors import UserError
from parakit.data import Conversation, Document, Message
from parakit.tokens import BatchSource, Tokenizer, TokenShards, write_shards
from parakit.tokens.batches.masking import MaskedSource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.tokens.tokenizer.special_tokens import SpecialTokens

TEXTS = ["The cat sat on a mat.", "Seven small dogs said hello!", "Straße"]


def written(tokenizer: Tokenizer, path: Path, **options: str) -> TokenShards:
    documents = [Document(text, "here", len(text.encode())) for text in TEXTS]
    write_shards({"train": documents}, tokenizer, path, **options)  # type: ignore[arg-type]
    return TokenShards.open(path, "train")


def framed_as(tokenizer: Tokenizer, family: str, text: str) -> list[int]:
    before, after = {
        "decoder": (["bos_id"], ["eos_id"]),
        "encoder": (["cls_id"], ["sep_id"]),
        "encoder-decoder": ([], ["eos_id"]),
    }[family]
    ends = [[getattr(tokenizer, name) for name in names] for names in (before, after)]
    return [*ends[0], *tokenizer.encode(text), *ends[1]]


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_documents_are_framed_for_the_family_that_reads_them(
    byte_bpe: Tokenizer, tmp_path: Path, family: str
) -> None:
    shards = written(byte_bpe, tmp_path / "shards", **({} if family == "decoder" else {"family": family}))
    assert shards.family == family
    documents = np.split(shards.token_ids, shards.offsets[1:-1])
    assert [d.tolist() for d in documents] == [framed_as(byte_bpe, family, text) for text in TEXTS]
    assert shards.n_bytes == sum(len(text.encode()) for text in TEXTS)


def published(tokenizer: Tokenizer, processor: object) -> Tokenizer:
    """A tokenizer with special tokens that are not ours, framed by its post-processor."""
    from tokenizers import Tokenizer as Whole

    whole = Whole.from_str(tokenizer.json)
    whole.post_processor = processor
    return Tokenizer(whole.to_str(), kind=tokenizer.kind, special=SpecialTokens({"eos": "<|eos|>"}))


def test_published_tokenizers_frame_documents_as_they_frame_texts(
    byte_bpe: Tokenizer, tmp_path: Path
) -> None:
    bos, eos = byte_bpe.bos_id, byte_bpe.eos_id
    assert bos is not None
    assert eos is not None
    like_bart = published(byte_bpe, processors.RobertaProcessing(("<|eos|>", eos), ("<|bos|>", bos)))
    shards = written(like_bart, tmp_path / "bart", family="encoder-decoder")
    assert shards.token_ids[: shards.offsets[1]].tolist() == [bos, *byte_bpe.encode(TEXTS[0]), eos]
    bare = published(byte_bpe, processors.ByteLevel())
    for family in ("encoder", "encoder-decoder"):
        with pytest.raises(UserError, match="adds no special tokens to a text"):
            written(bare, tmp_path / "bare", family=family)


def test_conversations_are_for_decoders(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    chat = Conversation((Message("user", "Hello"), Message("assistant", "Hi")))
    with pytest.raises(UserError, match="conversations are for decoders, and the family is encoder"):
        write_shards({"train": [chat]}, byte_bpe, tmp_path / "shards", family="encoder")


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=20).filter(any),
    seq_len=st.integers(1, 12),
    seed=st.integers(0, 3),
    packing=st.sampled_from(["concat", "pack"]),
)
def test_without_shift_every_token_is_met_once_and_is_its_own_target(
    lengths: list[int], seq_len: int, seed: int, packing: str
) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shards = TokenShards(np.arange(1, offsets[-1] + 1, dtype=np.uint32), offsets, pad_id=0)
    if packing == "pack":
        lengths = [min(n, seq_len) for n in lengths]
    kept = {int(first) + i + 1 for first, n in zip(offsets, lengths, strict=False) for i in range(n)}
    source = BatchSource(shards, seq_len, seed, packing, shift=0)
    n_rows = int(source.rows_per_epoch)
    for epoch in range(2):
        batch = source.rows(epoch * n_rows, n_rows)
        assert np.array_equal(batch.input_ids, batch.target_ids)
        assert Counter(batch.input_ids[batch.document_ids >= 0].tolist()) == Counter(kept)
        assert np.array_equal(batch.loss_mask, batch.document_ids >= 0)


def test_an_encoder_reads_its_own_shards(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    shards = written(byte_bpe, tmp_path / "shards", family="encoder")
    source = MaskedSource(
        BatchSource(shards, 256, 0, shift=0), VocabInfo.from_tokenizer(byte_bpe), whole_word=True
    )
    batch = source.rows(0, 1)
    told = {
        byte_bpe.decode(batch.target_ids[0, batch.document_ids[0] == number].tolist())
        for number in range(len(TEXTS))
    }
    assert told == set(TEXTS)
    assert 0 < batch.n_counted < 10
    assert (batch.input_ids[batch.loss_mask] == byte_bpe.mask_id).any()
