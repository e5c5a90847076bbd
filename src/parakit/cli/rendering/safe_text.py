"""Text from files and models, made safe to print."""

from __future__ import annotations

from typing import Any

from rich.markup import escape


def safe(text: Any) -> str:
    """Text without rich markup and terminal control codes."""
    return escape(plain(text))


def plain(text: Any) -> str:
    """Text without terminal control codes, for what reads no markup."""
    return "".join(
        letter if letter in "\n\t" or letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for letter in str(text)
    )
