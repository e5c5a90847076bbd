"""A small part of the attacks on the sandbox and by special tokens, and that they find a planted fault."""

from __future__ import annotations

import pytest

from parakit.tokens import Tokenizer
from tests.attacks import injection, sandbox


def test_no_text_becomes_a_control_token() -> None:
    checks, violations, _ = injection.attack(len(injection.tokenizers()) * 2, seed=2)
    assert violations == []
    assert len(checks) == len(
        injection.CHAT | injection.TEXT | injection.DECODING | injection.ENCODER | injection.OWN_CHAT
    )
    assert sum(checks.values()) > 300


def test_a_text_that_is_read_with_control_tokens_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
        text = "".join(texts)
        return [i for form, i in tokenizer.special_tokens.items() for _ in range(text.count(form))]

    monkeypatch.setattr(injection, "places", lambda name: {"faulty": faulty})
    _, violations, _ = injection.attack(16, seed=2)
    assert len(violations) > 4


@pytest.mark.usefixtures("isolation")
def test_drawn_replies_pass_no_test() -> None:
    assert sandbox.cheats(sandbox.drawn_cheats(12, seed=2)) == []


@pytest.mark.usefixtures("isolation")
def test_drawn_system_calls_and_files_are_out_of_reach(isolation: str) -> None:
    n, out = sandbox.escapes(isolation, 12, seed=2)
    assert out == []
    assert n > 100


@pytest.mark.usefixtures("isolation")
def test_solutions_pass_with_anything_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (sandbox.DATA / "mbpp").is_dir():
        pytest.skip(f"public data is not at {sandbox.DATA} (set PARAKIT_DATA)")
    every = list(sandbox.solutions(sandbox.DATA))
    monkeypatch.setattr(sandbox, "solutions", lambda _: every[::60])
    n, failed = sandbox.right(60, seed=2)
    assert (n, failed) == (60, {})
