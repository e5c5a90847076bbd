"""Alignment as a stage: one training run, or the several steps of a constitution."""

from __future__ import annotations

from pathlib import Path

from parakit.checkpoints.adapters import require_full_model
from parakit.common.files import JsonObject
from parakit.stages.align_job import AlignJob
from parakit.stages.constitution import constitution
from parakit.stages.job import run_job


def align(job: AlignJob, out: Path, overwrite: bool = False) -> JsonObject:
    """Run the method and write the model folder `out`; returns the figures."""
    require_full_model(job.model, "alignment")
    run = constitution if job.method == "constitution" else run_job
    return run(job, out, overwrite)
