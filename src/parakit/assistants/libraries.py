"""Libraries of the extra `assist`, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from parakit.common.errors import UserError


def needs(name: str) -> Any:
    """The module `name`; `UserError` with the way to install it where it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"{name} is needed for this and cannot be imported: {error}", "pip install 'parakit[assist]'"
        ) from None
