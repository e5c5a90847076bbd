"""While something is computed: a line that says so, and the message where it fails."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from parakit.common.errors import UserError


def sentences(error: UserError) -> str:
    """The message and the way out as sentences."""
    parts = [part.strip() for part in (error.message, error.hint) if part and part.strip()]
    return " ".join(f"{part[0].upper()}{part[1:]}" + ("" if part[-1] in ".!?" else ".") for part in parts)


@contextlib.asynccontextmanager
async def working(label: Any, text: str) -> AsyncIterator[list[str]]:
    """Show `text` in the label during the block, and after it nothing, or the message of a `UserError`. Yields a list, to
    which the message is appended.
    """
    failed: list[str] = []
    label.set_text(f"{text} …")
    label.classes(remove="text-negative")
    try:
        yield failed
        label.set_text("")
    except UserError as error:
        failed.append(error.message)
        label.classes(add="text-negative")
        label.set_text(sentences(error))
    except (RuntimeError, MemoryError) as error:  # torch: too little memory, a kernel that is not there
        failed.append(str(error))
        label.classes(add="text-negative")
        label.set_text(f"this cannot be computed here: {str(error).splitlines()[0][:200]}")
