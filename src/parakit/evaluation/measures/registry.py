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
    "calibration": _measure(
        "whether the model is right as often as it is sure: ECE and Brier score on ARC-Easy",
        "calibration:measure_calibration",
        needs_data=True,
    ),
    "refusal": _measure(
        "harmful requests that are declined, and harmless look-alikes that are not", "refusal:measure_refusal"
    ),
    "bias": _measure(
        "the likelier of two sentences that differ in a word for a group: stereotypes", "bias:measure_bias"
    ),
    "extraction": _measure(
        "training text that the model continues word for word; your sample of it is the data",
        "memorization:measure_extraction",
        needs_data=True,
    ),
    "exposure": _measure(
        "how much a model gives away of canaries planted in its training text, in bits",
        "memorization:measure_exposure",
        needs_data=True,
    ),
    "needle": _measure("a sentence to be found in a long text, by length and depth", "needle:measure_needle"),
    "analogies": _measure(
        "analogies of words by the arithmetic of vectors", "analogies:measure_analogies", needs_data=True
    ),
}
