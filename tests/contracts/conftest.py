"""Healthy patients, ready to be made ill."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.training import train_tokenizer
from tests.contracts.patients import DOCUMENTS, Patient, make_patient
from tests.contracts.task_patients import task_patient


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer((d.text for d in DOCUMENTS), TokenizerConfig(vocab_size=330))


@pytest.fixture
def pretrain(tokenizer: Tokenizer) -> Patient:
    return make_patient(tokenizer, "pretrain")


@pytest.fixture
def chat(tokenizer: Tokenizer) -> Patient:
    return make_patient(tokenizer, "chat")


@pytest.fixture
def healthy_patient(tokenizer: Tokenizer) -> Callable[..., Patient]:
    return lambda *arguments, **settings: make_patient(tokenizer, *arguments, **settings)


@pytest.fixture(scope="session")
def noise_tokenizer() -> Tokenizer:
    """With sentinels."""
    return train_tokenizer((d.text for d in DOCUMENTS), TokenizerConfig(vocab_size=330, n_sentinels=12))


@pytest.fixture
def healthy_task(noise_tokenizer: Tokenizer) -> Callable[..., Patient]:
    return lambda kind, *arguments, **settings: task_patient(kind, noise_tokenizer, *arguments, **settings)
