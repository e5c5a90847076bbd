"""Tiny random models of the three families with a tokenizer."""

from __future__ import annotations

import pytest
import torch

from parakit.inference.loaded_model import Model
from parakit.model.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from parakit.model.heads import LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.tokens import TokenizerConfig, train_tokenizer
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.inspection.architectures import with_noise
from tests.sample_text import sentences


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter([sentences(0, 200)]), TokenizerConfig(vocab_size=320))


def stack_settings(tokenizer: Tokenizer) -> dict[str, int]:
    """Of a tiny stack."""
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 4, "d_ff": 24}
    return {"vocab_size": tokenizer.vocab_size, "max_seq_len": 160, **sizes}


@pytest.fixture(scope="session")
def decoder(tokenizer: Tokenizer) -> Model:
    torch.manual_seed(0)
    return Model(with_noise(LanguageModel(DecoderConfig(**stack_settings(tokenizer)))), tokenizer)


@pytest.fixture(scope="session")
def encoder(tokenizer: Tokenizer) -> Model:
    torch.manual_seed(0)
    return Model(with_noise(MaskedLanguageModel(EncoderConfig(**stack_settings(tokenizer)))), tokenizer)


@pytest.fixture(scope="session")
def encoder_decoder(tokenizer: Tokenizer) -> Model:
    torch.manual_seed(0)
    settings = stack_settings(tokenizer)
    config = EncoderDecoderConfig(encoder=EncoderConfig(**settings), decoder=DecoderConfig(**settings))
    return Model(with_noise(SequenceToSequence(config)), tokenizer)
