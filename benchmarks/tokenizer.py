"""Training a 16k byte BPE on 60 MB, and bulk encoding, against `tokenizers` on the same cores.

The text: the books of the public set `gutenberg`, cut into documents of 20,000 characters, and after them
the same books with their letters exchanged by a fixed permutation, which doubles the number of distinct
words, until 60 MB are full. Without the public data, the primer's documents stand in (the result says
which). Both sides train the same model on the same list of texts and encode the same documents; theirs is
`encode_batch_fast`, ids taken out. Every document's ids are compared.
"""

from __future__ import annotations

import argparse
import gzip
import os
import string
import time
from collections.abc import Iterator, Mapping

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from benchmarks.harness import DATA, paired, report
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.tokenizer.fast_encoding import PATTERNS, byte_alphabet
from parakit.tokens.tokenizer.special_tokens import default_special_tokens

VOCAB_SIZE, DOCUMENT_CHARS = 16_384, 20_000
BAR = {"train.ratio.seconds": "<= 1.2", "encode.speedup": ">= 3", "encode.n_different": "== 0"}


def main(arguments: list[str]) -> None:
    """Measure, and report as `tokenizer`."""
    parser = argparse.ArgumentParser(prog="benchmarks tokenizer", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=60, help="text to train on")
    parser.add_argument("--encode-megabytes", type=float, default=20, help="text to encode")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    source, texts = _texts(int(options.megabytes * 1e6))
    train = paired(lambda: _train_ours(texts), lambda: _train_theirs(texts), options.repeats)
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=VOCAB_SIZE))
    reference = HuggingFaceTokenizer.from_str(tokenizer.json)
    documents = list(_up_to(iter(texts), int(options.encode_megabytes * 1e6)))
    n_bytes = sum(len(text.encode()) for text in documents)
    tokenizer.encode_bulk(documents[:4])  # builds the fast encoder, and proves it
    encode = paired(
        lambda: _encode_ours(tokenizer, documents, n_bytes),
        lambda: _encode_theirs(reference, documents, n_bytes),
        options.repeats,
    )
    ours = tokenizer.encode_bulk(documents)
    theirs = reference.encode_batch_fast(documents, add_special_tokens=False)
    n_different = sum(a.tolist() != b.ids for a, b in zip(ours, theirs, strict=True))
    speedup = encode["ratio"]["megabytes_per_second"]
    figures = {
        "text": source,
        "n_bytes": sum(len(text.encode()) for text in texts),
        "n_documents_encoded": len(documents),
        "n_cores": len(os.sched_getaffinity(0)),
        "train": train,
        "encode": encode | {"speedup": speedup, "n_different": n_different},
    }
    report("tokenizer", figures, BAR)


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
    turned = "qwertyuiopasdfghjklzxcvbnm"
    exchange = str.maketrans(lower + upper, turned + turned.upper())
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


def _train_ours(texts: list[str]) -> Mapping[str, float]:
    started = time.perf_counter()
    train_tokenizer(iter(texts), TokenizerConfig(vocab_size=VOCAB_SIZE))
    return {"seconds": time.perf_counter() - started}


def _train_theirs(texts: list[str]) -> Mapping[str, float]:
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


def _encode_ours(tokenizer: Tokenizer, documents: list[str], n_bytes: int) -> Mapping[str, float]:
    started = time.perf_counter()
    tokenizer.encode_bulk(documents)
    return {"megabytes_per_second": n_bytes / 1e6 / (time.perf_counter() - started)}


def _encode_theirs(
    reference: HuggingFaceTokenizer, documents: list[str], n_bytes: int
) -> Mapping[str, float]:
    started = time.perf_counter()
    _ = [encoding.ids for encoding in reference.encode_batch_fast(documents, add_special_tokens=False)]
    return {"megabytes_per_second": n_bytes / 1e6 / (time.perf_counter() - started)}
