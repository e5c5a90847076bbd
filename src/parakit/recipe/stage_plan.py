"""What is planned of one stage of a recipe, and the bytes that it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from parakit.data.fetching.locations import local_path
from parakit.planning.run_plan import RunPlan


@dataclass(frozen=True)
class StagePlan:
    """One stage. `plan` is None where nothing can be known before the data is there, and where nothing is trained."""

    name: str
    plan: RunPlan | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"stage": self.name, "plan": self.plan.to_json() if self.plan else None, "notes": self.notes}


def file_bytes(name: str) -> float:
    """Bytes of a file or folder; compressed files count threefold."""
    path = local_path(name)
    files = path.rglob("*") if path.is_dir() else [path]
    return float(
        sum(
            file.stat().st_size * (3 if file.suffix in (".gz", ".parquet") else 1)
            for file in files
            if file.is_file()
        )
    )
