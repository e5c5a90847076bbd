"""A sample of random constraints; `python -m tests.attacks.constrained` draws thousands."""

from __future__ import annotations

import pytest

from parakit.inference.generation import constraints
from tests.attacks.constrained import attack


def test_completions_under_random_constraints_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraints, "_try_in_child", lambda text, name: None)  # a quarter of a second each
    found = attack(40)
    assert found["violations"] == []
    assert found["ended"] >= 40


@pytest.mark.long
def test_a_thousand_completions_are_valid() -> None:
    assert attack(1000, seed=1)["violations"] == []
