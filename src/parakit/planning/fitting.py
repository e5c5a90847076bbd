"""What fits on a machine, and the nearest thing to a run that does not. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.common.formatting import byte_size, compact
from parakit.model.config import ModelConfig
from parakit.model.presets import config_for_size
from parakit.planning.machines import Machine
from parakit.planning.run_memory import available_bytes, run_bytes
from parakit.planning.runs import FROZEN, RunSpec

SIZE_STEP = 0.8


@dataclass(frozen=True)
class Fit:
    """Whether a run fits, and if not the nearest that does: what to change, and the run; None: nothing does."""

    fits: bool
    peak_bytes: int
    available_bytes: int
    change: str = ""
    alternative: RunSpec | None = None


def fit(spec: RunSpec, machine: Machine) -> Fit:
    """Compare the peak of `spec` with the memory of one device, and look for the nearest run that fits where it does not."""
    peak, limit = run_bytes(spec, machine).peak, available_bytes(machine)
    if peak <= limit:
        return Fit(True, peak, limit)
    found = next(((change, other) for change, other in nearest_runs(spec) if fits(other, machine)), ())
    return Fit(False, peak, limit, *found)


def fits(spec: RunSpec, machine: Machine) -> bool:
    """Whether the peak of `spec` is within the memory of one device."""
    return run_bytes(spec, machine).peak <= available_bytes(machine)


def nearest_runs(spec: RunSpec) -> Iterator[tuple[str, RunSpec]]:
    """Changes that save memory, from those that change the result least: fewer rows at a time, blocks computed twice,
    sharding, fewer trained parameters, fewer bits, a shorter context, a smaller model.
    """
    smallest, named = spec, ""
    while spec.trains and smallest.micro_batch_size > 1:
        smallest = smallest.changed(micro_batch_size=smallest.micro_batch_size // 2)
        named = f"--micro-batch-size {smallest.micro_batch_size}"
        yield named, smallest
    join = lambda *parts: " ".join(part for part in parts if part)  # noqa: E731
    if spec.trains and not spec.checkpointing:
        yield "--checkpointing", spec.changed(checkpointing=True)
        smallest, named = smallest.changed(checkpointing=True), join(named, "--checkpointing")
        yield named, smallest
    if spec.trains and spec.n_devices > 1 and spec.sharding != "full":
        smallest, named = smallest.changed(sharding="full"), join(named, "--sharding full")
        yield named, smallest
    if spec.method in ("full", "lora", "prompt"):
        yield join("--method lora", named), smallest.changed(method="lora")
        yield join("--method qlora --bits 4", named), smallest.changed(method="qlora", bits=4)
    if spec.method == "inference":
        for bits in (16, 8, 4):
            if bits < spec.bits:
                yield f"--bits {bits}", spec.changed(bits=bits)
        while smallest.n_rows > 1:
            smallest = smallest.changed(n_rows=smallest.n_rows // 2)
            yield f"--n-sequences {smallest.n_rows}", smallest
    if spec.method not in FROZEN and spec.method != "full":
        yield from _smaller_models(smallest, named)


def _smaller_models(spec: RunSpec, named: str) -> Iterator[tuple[str, RunSpec]]:
    size = spec.n_parameters
    while (size := int(size * SIZE_STEP)) > 300_000:
        smaller = _of_size(spec.config, size)
        if smaller is not None:
            n = smaller.n_params()["total"]
            yield (
                " ".join(filter(None, (f"--size {compact(n).replace(' ', '')}", named))),
                spec.changed(config=smaller),
            )


def _of_size(config: ModelConfig, size: int) -> ModelConfig | None:
    try:
        return config_for_size(size, config.vocab_size, config.max_seq_len, config.family).config
    except UserError:  # smaller than the vocabulary admits
        return None


def require_fit(spec: RunSpec, machine: Machine) -> Fit:
    """As `fit`; raises `UserError` where nothing fits at all."""
    found = fit(spec, machine)
    if not found.fits and found.alternative is None:
        raise UserError(
            f"{spec.describe()}: needs {byte_size(found.peak_bytes)}, and {byte_size(found.available_bytes)} of"
            f" {machine.title} can be used; nothing near it fits",
            "take a smaller model (--size), a smaller vocabulary (--vocab-size), or a machine with more memory",
        )
    return found
