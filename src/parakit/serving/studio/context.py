"""What the pages of the studio work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parakit.serving.generation.service import GenerationService
    from parakit.serving.models.registry import Registry


@dataclass(frozen=True)
class StudioContext:
    """`root`: the folder whose models, builds and runs are shown, and below which the studio writes. `service`: what
    generates with the served models, to which those below `root` are added; without one nothing answers.
    """

    root: Path
    service: GenerationService | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    """What pages share while the process runs, by the name of its owner; never written to disk."""

    @property
    def registry(self) -> Registry | None:
        """The served models."""
        return None if self.service is None else self.service.registry

    @property
    def accounts(self) -> Any:
        """Prices and the ledger, where the server has them."""
        return None if self.service is None else self.service.meter

    @property
    def studio_dir(self) -> Path:
        """Where the studio keeps conversations and votes."""
        return self.root / "studio"
