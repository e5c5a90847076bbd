"""Loss and bits per byte against a float64 reference that knows no batches, no packing and no windows."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.data import Document
from parakit.evaluation.perplexity import encode_documents, evaluate_loss, evaluate_text
from parakit.tokens import TokenShards


@pytest.fixture(scope="module")
def texts() -> list[str]:
    generator = rng(0, "texts")
    words = np.array(["Anna", "sees", "the", "bird", "très", "bien,", "12", "eggs.", "👩‍🚀", "\n"])
    return [" ".join(generator.choice(words, int(n))) for n in generator.integers(1, 50, 40)]


@pytest.fixture(scope="module")
def shards(texts, tokenizer) -> TokenShards:
    return encode_documents(tokenizer, [Document(text, "x", len(text.encode())) for text in texts])


@torch.no_grad()
def reference(model, shards, counts=lambda document, i: True):
    """Nats and number of counted tokens: one forward pass a document, in float64, each target picked by
    hand.
    """
    exact = copy.deepcopy(model).double()
    nats, n = 0.0, 0
    for number, (low, high) in enumerate(zip(shards.offsets, shards.offsets[1:], strict=False)):
        ids = torch.from_numpy(np.asarray(shards.token_ids[low:high], np.int64))
        log_probabilities = exact(ids[None, :-1])[0].log_softmax(-1)
        for i in range(1, len(ids)):
            if counts(number, i):
                nats -= float(log_probabilities[i - 1, ids[i]])
                n += 1
    return nats, n


def test_loss_perplexity_and_bits_per_byte_equal_the_reference(model, texts, shards, tokenizer):
    nats, n = reference(
        model, shards, lambda document, i: shards.offsets[document] + i + 1 < shards.offsets[document + 1]
    )
    all_nats, n_all = reference(model, shards)
    found = evaluate_loss(model, shards)
    n_bytes = sum(len(text.encode()) for text in texts)
    assert found.n_tokens == n == sum(len(tokenizer.encode(text)) for text in texts)  # neither BOS nor EOS
    assert (found.n_end_tokens, found.n_documents, found.counted) == (len(texts), len(texts), "text")
    assert found.end_nats_per_token == pytest.approx((all_nats - nats) / len(texts), rel=1e-6)
    assert found.objective == pytest.approx(all_nats / n_all, rel=1e-6)
    assert found.low < found.loss_nats_per_token < found.high
    assert sum(found.block_nats) == pytest.approx(nats)
    assert sum(found.block_tokens) == n
    assert found.n_bytes == n_bytes
    assert found.loss_nats_per_token == pytest.approx(nats / n, rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(nats / n), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-6)


def test_the_batch_size_and_the_row_length_change_nothing(model, shards):
    losses = [
        evaluate_loss(model, shards, rows_per_batch=rows).loss_nats_per_token for rows in (1, 2, 3, 7, 64)
    ]
    assert max(losses) - min(losses) < 1e-6
    longest = int(np.diff(shards.offsets).max())
    fitted = evaluate_loss(model, shards, seq_len=longest, rows_per_batch=2).loss_nats_per_token
    assert fitted == pytest.approx(losses[0], abs=1e-6)


def test_long_documents_are_read_in_windows_and_every_token_is_counted_once(model, shards):
    exact = copy.deepcopy(model).double()
    seq_len, overlap = 24, 8
    nats, n = 0.0, 0
    with torch.no_grad():
        for low, high in zip(shards.offsets, shards.offsets[1:], strict=False):
            ids = torch.from_numpy(np.asarray(shards.token_ids[low:high], np.int64))
            start, first = 0, 0  # the window's first input, the first pair not counted yet
            while first < len(ids) - 2:  # without EOS
                end = min(start + seq_len, len(ids) - 2)
                start = max(0, end - seq_len)  # the last window reaches back as far as fits
                log_probabilities = exact(ids[None, start:end])[0].log_softmax(-1)
                picked = log_probabilities.gather(1, ids[start + 1 : end + 1, None])[first - start :]
                nats, n = nats - float(picked.sum()), n + len(picked)
                first = end
                start = end - overlap
    found = evaluate_loss(model, shards, seq_len=seq_len, overlap=overlap)
    assert found.n_tokens == n == evaluate_loss(model, shards).n_tokens
    assert found.loss_nats_per_token == pytest.approx(nats / n, rel=1e-6)


def test_only_masked_in_tokens_count(model, shards):
    loss_mask = (rng(0, "mask").random(len(shards.token_ids)) < 0.3).astype(np.uint8)
    masked = dataclasses.replace(shards, loss_mask=loss_mask)
    nats, n = reference(model, shards, lambda document, i: loss_mask[shards.offsets[document] + i])
    found = evaluate_loss(model, masked)
    assert found.n_tokens == n
    assert found.loss_nats_per_token == pytest.approx(nats / n, rel=1e-6)


def test_raw_files_are_measured_by_their_own_bytes(model, tokenizer, texts, tmp_path):
    raw = "\n".join(texts[:6]).encode()
    broken = b"Anna \xff sees\xfe the bird.\n"
    (tmp_path / "a.txt").write_bytes(raw)
    (tmp_path / "b.txt").write_bytes(broken)
    (tmp_path / "c.txt").write_bytes(raw)  # a duplicate is measured again
    counted = []
    found = evaluate_text(model, tokenizer, [str(tmp_path)], advance=counted.append)
    assert found.n_bytes == 2 * len(raw) + len(broken.decode("cp1252").encode())
    assert sum(counted) == found.n_tokens + found.n_end_tokens
    assert found.n_documents == found.n_end_tokens == 3
    assert found.bits_per_byte == pytest.approx(
        found.loss_nats_per_token * found.n_tokens / math.log(2) / found.n_bytes
    )
    assert found.n_unknown == 0


def test_unknown_tokens_are_counted(model, tmp_path):
    from parakit.tokens import TokenizerConfig, train_tokenizer

    char = train_tokenizer(iter(["Anna sees the bird."]), TokenizerConfig(kind="char", vocab_size=60))
    (tmp_path / "a.txt").write_text("Anna sieht 3 birds")
    assert evaluate_text(model, char, [str(tmp_path / "a.txt")]).n_unknown == 1  # the digit


def test_dropout_is_off_and_the_model_is_handed_back_in_training_mode(model, shards):
    noisy = type(model)(model.config.replace(dropout=0.5))
    noisy.load_state_dict(model.state_dict())
    found = evaluate_loss(noisy.train(), shards)
    assert found == evaluate_loss(model, shards)
    assert noisy.training


def test_mistakes_are_named(model, tokenizer, shards, tmp_path):
    with pytest.raises(UserError, match=r"seq_len 257 .* 256"):
        evaluate_loss(model, shards, seq_len=257)
    with pytest.raises(UserError, match="overlap"):
        evaluate_loss(model, shards, seq_len=10, overlap=10)
    with pytest.raises(UserError, match=r"none\.txt"):
        evaluate_text(model, tokenizer, [str(tmp_path / "none.txt")])
    nothing = TokenShards(np.zeros(1, np.uint16), np.array([0, 1]))
    with pytest.raises(UserError, match="no token to predict"):
        evaluate_loss(model, nothing)
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.lm_head.weight[3] = float("nan")
    with pytest.raises(UserError, match="loss is nan"):
        evaluate_loss(broken, shards)
