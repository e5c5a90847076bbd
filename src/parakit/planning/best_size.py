"""In reverse: the best model that a time, an amount of money or a memory allows. Imports no torch.

The best of several sizes at one budget is the largest that sees enough tokens in it: about twenty for each parameter
(Hoffmann et al. 2022), and `time.TOKENS_PER_PARAMETER` below the sizes that were studied there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.common.formatting import byte_size, long_duration
from parakit.model.config import ModelConfig
from parakit.planning.laws import BESIROGLU, TOKENS_PER_PARAMETER
from parakit.planning.machines import Machine
from parakit.planning.run_memory import available_bytes, run_bytes
from parakit.planning.run_plan import RunPlan, plan_run
from parakit.planning.runs import RunMethod, RunSpec
from parakit.planning.step_time import step_seconds
from parakit.planning.time import TOKENS_PER_PARAMETER as TOKENS_PER_SMALL_PARAMETER

# Parameters -> a run that pre-trains a model of about that size; None: there is no such model.
SpecOfSize = Callable[[int], RunSpec | None]
SIZES = [round(3e5 * 1.25**i) for i in range(66)]  # 0.3 million to 600 billion
LEAST_SIZES = 2  # that do not fit, in a row, before the search ends


@dataclass(frozen=True)
class MemoryRow:
    """The largest model of one method in a memory."""

    method: RunMethod
    config: ModelConfig
    peak_bytes: int
    note: str


def tokens_per_parameter(n_params: float) -> float:
    """How many tokens for each parameter make a size the best use of its compute."""
    return TOKENS_PER_PARAMETER if n_params >= BESIROGLU.n_range[0] else TOKENS_PER_SMALL_PARAMETER


def best_in_time(
    seconds: float,
    machine: Machine,
    spec_of_size: SpecOfSize,
    *,
    price_per_hour: float | None = None,
    price_per_kwh: float | None = None,
) -> RunPlan:
    """The largest size whose pre-training in `seconds` sees enough tokens, and which fits the machine. Raises `UserError`
    where not even the smallest does.
    """
    found: tuple[RunSpec, float] | None = None
    smallest: tuple[float, int] | None = None
    for spec in _specs(spec_of_size):
        if run_bytes(spec, machine).peak > available_bytes(machine):
            smallest = smallest or (float("inf"), run_bytes(spec, machine).peak)
            break
        n_tokens = seconds * spec.n_tokens / step_seconds(spec, machine).total
        needed = tokens_per_parameter(spec.n_parameters) * spec.n_parameters
        if n_tokens < needed:
            smallest = smallest or (seconds * needed / n_tokens, 0)
            break
        found = (spec, n_tokens)
    if found is None:
        assert smallest is not None
        if smallest[1]:
            raise UserError(
                f"nothing fits: the smallest model needs {byte_size(smallest[1])}, and"
                f" {byte_size(available_bytes(machine))} of {machine.title} can be used",
                "take a smaller vocabulary (--vocab-size), or a machine with more memory",
            )
        raise UserError(
            f"nothing fits: in {long_duration(seconds)} on {machine.title} not even the smallest model sees enough tokens;"
            f" it takes about {long_duration(smallest[0])}",
            "give more time or money, a faster machine (--gpu), or a smaller vocabulary (--vocab-size)",
        )
    return plan_run(found[0], machine, found[1], price_per_hour=price_per_hour, price_per_kwh=price_per_kwh)


def best_in_memory(
    n_bytes: float, machine: Machine, spec_of_size: SpecOfSize, methods: Sequence[RunMethod]
) -> list[MemoryRow]:
    """For each method the largest model that fits into `n_bytes`, one row at a time where it trains. Raises `UserError`
    where no method fits.
    """
    limited = machine.replace(memory_bytes=float(n_bytes))
    limit = available_bytes(limited)
    rows: list[MemoryRow] = []
    least = 0
    for method in methods:
        for checkpointing in (False, True) if method != "inference" else (False,):
            best, smallest = _largest(method, limited, spec_of_size, checkpointing)
            least = smallest if not least else min(least, smallest)
            if best is None:
                continue
            note = "gradient checkpointing, one row at a time" if checkpointing else "one row at a time"
            if rows and rows[-1].method == method and rows[-1].config == best.config:
                continue  # checkpointing allows no larger one
            note = {"inference": f"{best.bits}-bit weights, one sequence of {best.seq_len} tokens"}.get(
                method, note
            )
            rows.append(MemoryRow(method, best.config, run_bytes(best, limited).peak, note))
    if not rows:
        raise UserError(
            f"nothing fits into {byte_size(n_bytes)}, of which {byte_size(limit)} can be used: the smallest model needs"
            f" {byte_size(least)}",
            "give more memory, or a smaller vocabulary (--vocab-size)",
        )
    return rows


def _largest(
    method: RunMethod, machine: Machine, spec_of_size: SpecOfSize, checkpointing: bool
) -> tuple[RunSpec | None, int]:
    """The largest run that fits, and the peak of the smallest."""
    best, smallest, limit = None, 0, available_bytes(machine)
    for spec in _specs(spec_of_size):
        n_rows = 1 if method != "grpo" else spec.group_size
        bits = 4 if method == "qlora" else spec.bits
        tried = spec.changed(
            method=method, micro_batch_size=1, n_rows=n_rows, checkpointing=checkpointing, bits=bits,
            optimizer="muon" if method == "pretrain" else "adamw",
        )  # fmt: skip
        peak = run_bytes(tried, machine).peak
        smallest = smallest or peak
        if peak > limit:
            break
        best = tried
    return best, smallest


def _specs(spec_of_size: SpecOfSize) -> Iterator[RunSpec]:
    """Runs of growing size, each once."""
    last = 0
    for size in SIZES:
        spec = spec_of_size(size)
        if spec is not None and spec.n_parameters > last:
            last = spec.n_parameters
            yield spec
