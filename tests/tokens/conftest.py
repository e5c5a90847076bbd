"""Small tokenizers of every kind, trained once."""

from __future__ import annotations

import pytest

from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "said",
    "hello",
    "to",
    "seven",
    "small",
    "dogs",
    "who",
    "weren't",
    "there",
    "été",
    "naïve",
    "Straße",
    "你好",
    "мир",
]
KINDS = ("byte_bpe", "wordpiece", "unigram", "word", "char")


def sample_texts(n: int = 60) -> list[str]:
    """Sentences that differ, from a few words, numbers and a marker's name or two."""
    texts = []
    for i in range(n):
        chosen = [WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(12)]
        texts.append(f"{' '.join(chosen).capitalize()}, {i * 37} times.\n\n  <|user|> {chosen[0]}!\n")
    return texts


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    """One small tokenizer of each kind."""
    return {
        kind: train_tokenizer(sample_texts(), TokenizerConfig(kind=kind, vocab_size=400)) for kind in KINDS
    }


@pytest.fixture(scope="session")
def byte_bpe(tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    """The small byte BPE tokenizer."""
    return tokenizers["byte_bpe"]
