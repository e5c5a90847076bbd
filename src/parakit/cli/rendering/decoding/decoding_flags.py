"""Flags of decoding that `generate` and `chat` share: constraints come from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

import parakit
from parakit.common.errors import UserError
from parakit.inference.config import MAX_CONSTRAINT, SamplingConfig

FILES = ("json_schema", "grammar")


class DecodingFlags(SamplingConfig):
    """The settings of sampling as flags, and where drafts come from; a schema and a grammar are files."""

    json_schema: str | None = Field(
        default=None, description="A file with a JSON schema: the completion is JSON that it validates."
    )
    grammar: str | None = Field(
        default=None, description="A file with a grammar in Lark's notation, which the completion follows."
    )
    draft: str | None = Field(
        default=None,
        description="A folder with a smaller model of the same vocabulary, which drafts tokens: faster, the same distribution.",
    )
    prompt_lookup: int = Field(
        default=0,
        description="Draft up to so many tokens as the text so far went on where it was like this before; 0: none.",
    )


def read_files(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the contents of the files that they name. Raises `UserError` for a file that cannot be read."""
    return settings | {name: _read(settings[name], name) for name in FILES if settings.get(name) is not None}


def load_draft(settings: dict[str, Any], device: str, dtype: str) -> dict[str, Any]:
    """The settings with the draft model in the place of its folder."""
    if settings.get("draft") is None:
        return settings
    return settings | {"draft": parakit.load(settings["draft"], device=device, dtype=dtype)}


def _read(path: str, name: str) -> str:
    flag = f"--{name.replace('_', '-')}"
    try:
        size = Path(path).stat().st_size
        if size > 4 * MAX_CONSTRAINT:
            raise UserError(
                f"{flag} {path}: has {size:,} bytes, and the limit is {MAX_CONSTRAINT:,} characters",
                "make it smaller",
            )
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UserError(f"{flag} {path}: {reason}", "name a file") from None
