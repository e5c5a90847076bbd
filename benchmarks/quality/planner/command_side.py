"""One run of the planner's benchmark: `SIDE WORDS...` runs `parakit WORDS...` in this process.

The last line is a JSON object: processor seconds and seconds of every optimizer step, with the
batches, which for rollouts are sampled in it; positions and predictions of every micro-batch; the most memory that the process
held, and that before, in and after the steps; and some of what the command printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from parakit.cli.main import main as parakit
from parakit.common.hardware import peak_memory, reset_peak_memory


def main(words: list[str]) -> dict[str, Any]:
    """Run the command and return the figures."""
    from parakit.training import trainer

    steps: list[tuple[float, float]] = []
    shapes: list[list[tuple[int, int]]] = []
    peaks: dict[str, int] = {}
    plain = trainer.train_steps

    def timed(*args: Any, **settings: Any) -> Iterator[Any]:
        model, batches, *rest = args
        peaks["before"] = peak_memory()
        reset_peak_memory()

        def watched() -> Iterator[Any]:
            for micro_batches in batches:
                shapes.append([_shape(batch) for batch in micro_batches])
                yield micro_batches

        records = plain(model, watched(), *rest, **settings)
        while True:
            began, worked = time.perf_counter(), time.process_time()
            record = next(records, None)
            if record is None:
                peaks["steps"] = peak_memory()
                reset_peak_memory()
                return
            steps.append((time.process_time() - worked, time.perf_counter() - began))
            yield record

    trainer.train_steps = timed
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = parakit(words)
    lines = out.getvalue().strip().splitlines()
    printed = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {
        "status": status,
        "processor_seconds": [one for one, _ in steps],
        "seconds": [other for _, other in steps],
        "shapes": shapes,
        "peak_bytes": max(peak_memory(), *peaks.values(), 0),
        "peaks": peaks | {"after": peak_memory()},
        "printed": {
            name: printed[name]
            for name in ("speeds", "plan", "trained_parameters", "compiled")
            if name in printed
        },
    }


def _shape(batch: Any) -> tuple[int, int]:
    """Positions of a micro-batch that pass the network, padding included, and those whose logits are computed."""
    mask = getattr(batch, "loss_mask", None)
    return int(batch.n_tokens), int(mask.sum()) if mask is not None else int(batch.n_tokens)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])), flush=True)
