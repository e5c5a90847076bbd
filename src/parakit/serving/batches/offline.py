"""A batch file without a server: `parakit generate MODEL --batch FILE --output OUT`.

The lines go through the same routes as those of `/v1/batches`, in this process, so that an answer is the server's. The record
of the answers is `OUT.partial` until all are there.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import writing_file
from parakit.common.progress import progress
from parakit.serving.app import ANSWERING
from parakit.serving.batches.executor import LineExecutor
from parakit.serving.batches.lines import read_lines
from parakit.serving.batches.runner import BatchRun
from parakit.serving.config import ServeConfig
from parakit.serving.context import ServingContext
from parakit.serving.generation.service import GenerationService
from parakit.serving.models.locations import locate_models
from parakit.serving.models.registry import Registry


@dataclass(frozen=True)
class OfflineBatch:
    """What a run did."""

    output: Path
    n_lines: int
    n_failed: int
    n_before: int
    """Lines that an earlier run had answered."""


def run_batch_file(model: str, batch: str | Path, output: str | Path, config: ServeConfig) -> OfflineBatch:
    """Answer the lines of `batch` with a model, whatever model they name, and write the answers in the same order.

    `UserError` for a file that is none, and for an output that exists.
    """
    batch, output = Path(batch), Path(output)
    if output.exists():
        raise UserError(f"{output}: exists already", "choose another --output, or move it away")
    if not output.parent.is_dir():
        raise UserError(f"{output}: the folder {output.parent} does not exist", "make it first")
    try:
        with open(batch, "rb") as file:
            lines = read_lines(file)
    except OSError as error:
        raise UserError(f"{batch}: cannot be read: {error.strerror}", "name a file of JSON lines") from None
    except UserError as error:
        raise UserError(f"{batch}: {error.message}", error.hint) from None
    [location] = locate_models([model])
    lines = [replace(line, body=line.body | {"model": location.name}) for line in lines]
    run = BatchRun(lines, output.with_name(output.name + ".partial"))
    n_before = len(run.rows)
    registry = Registry([location], config)
    asyncio.run(_run(run, registry, config))
    with writing_file(output) as file:
        file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in run.rows)
    run.forget()
    return OfflineBatch(output, len(lines), run.n_failed, n_before)


async def _run(run: BatchRun, registry: Registry, config: ServeConfig) -> None:
    service = GenerationService(registry)
    try:
        executor = LineExecutor(ServingContext(registry, config, service), ANSWERING)
        with progress("batch", len(run.lines), "lines") as bar:
            bar.resume_at(len(run.rows))
            await run.run(executor, config.max_running, lambda row: bar.advance())
    finally:
        service.close()
        await registry.close()
