"""Healthy training cases, ready to be broken, and the proof that a contract test catches its mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.training import train_tokenizer
from parakit.training.doctor.registry import Check, CheckResult
from tests.contracts.task_cases import task_case
from tests.contracts.training_cases import DOCUMENTS, TrainingCase, make_case


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer((d.text for d in DOCUMENTS), TokenizerConfig(vocab_size=330))


@pytest.fixture
def pretrain(tokenizer: Tokenizer) -> TrainingCase:
    return make_case(tokenizer, "next_token")


@pytest.fixture
def chat(tokenizer: Tokenizer) -> TrainingCase:
    return make_case(tokenizer, "chat")


@pytest.fixture
def healthy_case(tokenizer: Tokenizer) -> Callable[..., TrainingCase]:
    return lambda *arguments, **settings: make_case(tokenizer, *arguments, **settings)


@pytest.fixture(scope="session")
def noise_tokenizer() -> Tokenizer:
    """With sentinels."""
    return train_tokenizer((d.text for d in DOCUMENTS), TokenizerConfig(vocab_size=330, n_sentinels=12))


@pytest.fixture
def healthy_task(noise_tokenizer: Tokenizer) -> Callable[..., TrainingCase]:
    return lambda task, *arguments, **settings: task_case(task, noise_tokenizer, *arguments, **settings)


@pytest.fixture(autouse=True)
def _catches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test marked `catches(name, ...)` fails unless each of these checks has failed in it."""
    failed: set[str] = set()
    run = Check.run

    def recorded(self: Check, context: Any) -> CheckResult:
        result = run(self, context)
        if not result.passed:
            failed.add(self.name)
        return result

    monkeypatch.setattr(Check, "run", recorded)
    yield
    for marker in request.node.iter_markers("catches"):
        assert set(marker.args) <= failed, f"not caught: {', '.join(sorted(set(marker.args) - failed))}"
