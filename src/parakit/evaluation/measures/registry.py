"""Parakit's own measures by name. A measure's module is imported when it is run: the list costs no torch."""

from __future__ import annotations

import importlib

from parakit.evaluation.measures.measure import Measure, MeasureInput
from parakit.evaluation.results import BenchmarkResult


def _measure(description: str, where: str, *, needs_data: bool = False) -> Measure:
    """A measure whose function is `MODULE:NAME` in this package."""
    module, _, name = where.partition(":")

    def run(given: MeasureInput) -> BenchmarkResult:
        found: BenchmarkResult = getattr(
            importlib.import_module(f"parakit.evaluation.measures.{module}"), name
        )(given)
        return found

    return Measure(description, run, needs_data)


MEASURES: dict[str, Measure] = {
    "minimal_pairs": _measure(
        "five behaviours of language, as pairs of texts of which one is right, from the primer",
        "minimal_pairs:measure_primer_pairs",
    ),
    "blimp": _measure(
        "67 phenomena of English grammar, as pairs of sentences of which one is right",
        "minimal_pairs:measure_blimp",
        needs_data=True,
    ),
    "humaneval": _measure(
        "164 Python functions, tested in the sandbox: pass@k", "code:measure_humaneval", needs_data=True
    ),
    "mbpp": _measure(
        "500 short Python programs, tested in the sandbox: pass@k, after three examples",
        "code:measure_mbpp",
        needs_data=True,
    ),
    "ifeval": _measure(
        "541 prompts with instructions that a program verifies", "ifeval:measure_ifeval", needs_data=True
    ),
}
