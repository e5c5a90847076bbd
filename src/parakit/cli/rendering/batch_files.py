"""`parakit generate --batch`: the requests of a file, answered without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.serving.config import ServeConfig

OWN_FLAGS = frozenset(("model", "batch", "output", "device", "dtype", "as_json", "cache_dtype"))


def answer_batch(command: Any) -> int:
    """Run the batch; 0 where every line was answered, else 1. `UserError` for flags that belong to a single prompt."""
    if command.batch is None or command.output is None:
        given, missing = ("--output", "--batch") if command.batch is None else ("--batch", "--output")
        raise UserError(
            f"{given} is set without {missing}", "parakit generate MODEL --batch FILE --output OUT"
        )
    others = sorted(command.model_fields_set - OWN_FLAGS - ({"prompt"} if command.prompt == "-" else set()))
    if others:
        flag = "the prompt" if others[0] == "prompt" else f"--{others[0].replace('_', '-')}"
        raise UserError(
            f"{flag} has no effect with --batch: each line has its own settings",
            "remove it, or set it in the lines",
        )
    try:
        from parakit.serving.batches.offline import run_batch_file
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "prometheus_client", "starlette"):
            raise
        raise UserError(f"batches need the package {error.name}", "pip install 'parakit[serve]'") from None
    settings = {"device": command.device, "dtype": command.dtype, "cache_dtype": command.cache_dtype}
    done = run_batch_file(command.model, command.batch, command.output, ServeConfig.parse(settings))
    if command.as_json:
        figures = {"n_lines": done.n_lines, "n_failed": done.n_failed, "n_answered_before": done.n_before}
        print(json.dumps({"output": str(done.output), **figures}))
    else:
        before = f", {done.n_before:,} of them by an earlier run" if done.n_before else ""
        log(f"{Path(done.output)}: {done.n_lines:,} answers{before}, {done.n_failed:,} with an error")
    return 1 if done.n_failed else 0
