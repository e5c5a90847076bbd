"""What the pages of the studio work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StudioContext:
    """`root`: the folder whose models, builds and runs are shown, and below which the studio writes. `registry`: the served
    models; without one the studio opens a model when a page needs it. `accounts`: prices and the ledger, where there are.
    """

    root: Path
    registry: Any = None
    accounts: Any = None
    shared: dict[str, Any] = field(default_factory=dict)
    """What pages share while the process runs, by the name of its owner; never written to disk."""

    @property
    def studio_dir(self) -> Path:
        """Where the studio keeps conversations and votes."""
        return self.root / "studio"
