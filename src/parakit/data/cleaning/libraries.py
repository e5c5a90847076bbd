"""Optional libraries that cleaning steps use, imported when a step is built."""

from __future__ import annotations

import importlib
from typing import Any

from parakit.common.errors import UserError


def load_library(name: str, step: str) -> Any:
    """The module `name`; `UserError` where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"the cleaning step {step} needs the library {name}, which is not installed",
            "install parakit[data], or leave the step out",
        ) from None
