"""Optional libraries that cleaning steps use, imported when a step is built."""

from __future__ import annotations

import importlib
from typing import Any

from parakit.common.errors import UserError


def load_library(name: str, step: str, way: str = "install parakit[data]") -> Any:
    """The module `name`; `UserError` where it is not installed. `way`: how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"the cleaning step {step} needs the library {name}, which is not installed",
            f"{way}, or leave the step out",
        ) from None
