"""Tiny models with random weights, whose greedy choices are not ties."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch

from parakit.common.seeds import rng
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer

TINY = DecoderConfig(
    vocab_size=97, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=24, max_seq_len=48
)


def build_model(
    config: DecoderConfig = TINY, dtype: torch.dtype = torch.float32, seed: int = 0
) -> LanguageModel:
    """Every matrix is drawn: a fresh model's blocks add nothing to the residual stream, and would test
    nothing.
    """
    torch.manual_seed(seed)
    model = LanguageModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
    return model.to(dtype).eval()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., LanguageModel]:
    return build_model


@pytest.fixture(scope="session")
def model32() -> LanguageModel:
    return build_model()


@pytest.fixture(scope="session")
def model64() -> LanguageModel:
    """In float64 two ways of summing differ by 1e-16, so equal tokens mean equal arithmetic, not luck."""
    return build_model(dtype=torch.float64)


WORDS = (
    "the small bird sees a red tree and sings near the old house while it's raining; oui, très bien! 12 eggs."
)


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Tokenizer]:
    """Tokenizers of each kind, trained on a few sentences without any emoji."""

    @functools.cache
    def make(kind: str = "byte_bpe", vocab_size: int = 300) -> Tokenizer:
        generator = rng(0, "tokenizer text")
        words = WORDS.split()
        texts = [" ".join(generator.choice(words, 12)) for _ in range(60)]
        return train_tokenizer(iter(texts), TokenizerConfig(kind=kind, vocab_size=vocab_size))

    return make


@pytest.fixture(scope="session")
def tiny_chat_model(make_tokenizer: Callable[..., Tokenizer]) -> tuple[LanguageModel, Tokenizer]:
    """A random model with a byte-level tokenizer: it says nonsense, much of it broken UTF-8."""
    tokenizer = make_tokenizer()
    return build_model(
        TINY.replace(vocab_size=tokenizer.vocab_size, max_seq_len=64), torch.float64, seed=1
    ), tokenizer
