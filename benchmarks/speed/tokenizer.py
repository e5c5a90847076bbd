"""Training a 16k byte BPE on 60 MB, and bulk encoding, against `tokenizers` on the same cores.

The text: the books of the public set `gutenberg`, cut into documents of 20,000 characters, and after them
the same books with their letters exchanged by a fixed permutation, which doubles the number of distinct
words, until 60 MB are full. Without the public data, the primer's documents stand in (the result says
which). Both sides train the same model on the same list of texts and encode the same documents; the peer uses
`encode_batch_fast`, ids taken out. Every document's ids are compared.
"""

from __future__ import annotations

import gzip
import os
import string
import time
from collections.abc import Iterator, Mapping

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from benchmarks.harness import DATA, paired
from benchmarks.registry import Figures, benchmark
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.tokenizer.fast_encoding import PATTERNS, byte_alphabet
from parakit.tokens.tokenizer.special_tokens import default_special_tokens

VOCAB_SIZE, DOCUMENT_CHARS = 16_384, 20_000


@benchmark("tokenizer", {
    "train.ratio.seconds": ("<= 1.2", "seconds to train a 16k byte BPE on 60 MB over those of tokenizers"),
    "encode.speedup": (">= 3", "megabytes a second of bulk encoding over those of tokenizers"),
    "encode.n_different": ("== 0", "documents whose ids differ"),
})  # fmt: skip
def tokenizer(*, megabytes: float = 60, encode_megabytes: float = 20, repeats: int = 3) -> Figures:
    """Train on `megabytes` of text and encode `encode_megabytes` of it."""
    source, texts = _texts(int(megabytes * 1e6))
    train = paired(lambda: _train(texts), lambda: _train_peer(texts), repeats)
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=VOCAB_SIZE))
    reference = HuggingFaceTokenizer.from_str(tokenizer.json)
    documents = list(_up_to(iter(texts), int(encode_megabytes * 1e6)))
    n_bytes = sum(len(text.encode()) for text in documents)
    tokenizer.encode_bulk(documents[:4])  # builds the fast encoder, and proves it
    encode = paired(
        lambda: _encode(tokenizer, documents, n_bytes),
        lambda: _encode_peer(reference, documents, n_bytes),
        repeats,
    )
    ids = tokenizer.encode_bulk(documents)
    peer_ids = reference.encode_batch_fast(documents, add_special_tokens=False)
    n_different = sum(a.tolist() != b.ids for a, b in zip(ids, peer_ids, strict=True))
    speedup = encode["ratio"]["megabytes_per_second"]
    return {
        "text": source,
        "n_bytes": sum(len(text.encode()) for text in texts),
        "n_documents_encoded": len(documents),
        "n_cores": len(os.sched_getaffinity(0)),
        "train": train,
        "encode": encode | {"speedup": speedup, "n_different": n_different},
    }


def _texts(n_bytes: int) -> tuple[str, list[str]]:
    files = sorted((DATA / "gutenberg").glob("*.txt.gz"))
    if not files:
        from parakit.primer import generate_documents
        from parakit.primer.config import PrimerConfig

        return "primer", list(
            _up_to((document.text for document in generate_documents(PrimerConfig())), n_bytes)
        )
    books = [gzip.decompress(file.read_bytes()).decode("utf-8", "replace") for file in files]
    lower, upper = string.ascii_lowercase, string.ascii_uppercase
    permuted = "qwertyuiopasdfghjklzxcvbnm"
    exchange = str.maketrans(lower + upper, permuted + permuted.upper())
    both = [*books, *(book.translate(exchange) for book in books)]
    cut = (book[i : i + DOCUMENT_CHARS] for book in both for i in range(0, len(book), DOCUMENT_CHARS))
    return "gutenberg, and again with its letters exchanged", list(_up_to(cut, n_bytes))


def _up_to(texts: Iterator[str], n_bytes: int) -> Iterator[str]:
    total = 0
    for text in texts:
        if total >= n_bytes:
            return
        total += len(text.encode())
        yield text


def _train(texts: list[str]) -> Mapping[str, float]:
    started = time.perf_counter()
    train_tokenizer(iter(texts), TokenizerConfig(vocab_size=VOCAB_SIZE))
    return {"seconds": time.perf_counter() - started}


def _train_peer(texts: list[str]) -> Mapping[str, float]:
    started = time.perf_counter()
    tokenizer = HuggingFaceTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS["one_digit"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=default_special_tokens("byte_bpe").all_strings(),
        initial_alphabet=list(byte_alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return {"seconds": time.perf_counter() - started}


def _encode(tokenizer: Tokenizer, documents: list[str], n_bytes: int) -> Mapping[str, float]:
    started = time.perf_counter()
    tokenizer.encode_bulk(documents)
    return {"megabytes_per_second": n_bytes / 1e6 / (time.perf_counter() - started)}


def _encode_peer(reference: HuggingFaceTokenizer, documents: list[str], n_bytes: int) -> Mapping[str, float]:
    started = time.perf_counter()
    _ = [encoding.ids for encoding in reference.encode_batch_fast(documents, add_special_tokens=False)]
    return {"megabytes_per_second": n_bytes / 1e6 / (time.perf_counter() - started)}
