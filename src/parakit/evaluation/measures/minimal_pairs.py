"""Minimal pairs: two sentences that differ in one thing, and of which one is right. A model that knows the thing finds the
right one likelier (Warstadt et al. 2020, "BLiMP", whose 67 sets these are). The primer's pairs are about its own world.

Whole sentences are compared, after BOS or EOS, without a normalization by length: the two differ by a word or in order.
Five behaviours, named A1 to A5 in docs/concepts.md, collect the sets that need the same ability.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from parakit.evaluation.measures.likelihood import PairItem, measure_pairs
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.measures.rows import draw, find_file, protocol, read_rows
from parakit.evaluation.results import BenchmarkResult, summarize_items
from parakit.primer.minimal_pairs import generate_minimal_pairs

BEHAVIOURS = {
    "A1": "reference resolution",
    "A2": "long-range dependency",
    "A3": "subject-verb agreement",
    "A4": "meaning by context",
    "A5": "negation",
}
PRIMER_BEHAVIOURS = {
    "reference": "A1",
    "long_agreement": "A2",
    "agreement": "A3",
    "meaning": "A4",
    "negation": "A5",
}
BLIMP_BEHAVIOURS = {
    "anaphor_agreement": "A1",
    "binding": "A1",
    "filler_gap_dependency": "A2",
    "subject_verb_agreement": "A3",
    "npi_licensing": "A5",
}
"""BLiMP's phenomena that show a behaviour: who "herself" is, a question word and its far gap, the verb's number, and words
such as "ever", which need a negation. Of meaning by context (A4) BLiMP has no set.
"""
N_PRIMER_PAIRS = 100  # of each behaviour
BLIMP_KEYS = ("sentence_good", "sentence_bad", "UID", "pairID", "linguistics_term")


def measure_blimp(given: MeasureInput) -> BenchmarkResult:
    """Accuracy on BLiMP by set, and by phenomenon and behaviour; needs `blimp/blimp.tar.gz` in the data."""
    rows = read_rows(find_file(given, "blimp", "blimp/blimp.tar.gz", "blimp/blimp.jsonl"), BLIMP_KEYS)
    drawn = draw(rows, given, "blimp", lambda row: str(row["UID"]))
    pairs = [
        PairItem(f"{row['UID']}/{row['pairID']}", row["sentence_good"], row["sentence_bad"], row["UID"])
        for row in drawn
    ]
    result = _measure(given, "blimp", rows, pairs)
    phenomena = {row["UID"]: row["linguistics_term"] for row in drawn}
    behaviours = {
        uid: _behaviour(BLIMP_BEHAVIOURS[term]) for uid, term in phenomena.items() if term in BLIMP_BEHAVIOURS
    }
    collected = {uid: f"phenomenon: {term}" for uid, term in phenomena.items()}
    return _with_groups(_with_groups(result, behaviours), collected)


def measure_primer_pairs(given: MeasureInput) -> BenchmarkResult:
    """Accuracy on the primer's pairs, by behaviour."""
    every = [
        PairItem(
            f"{one.behaviour}/{i % N_PRIMER_PAIRS}",
            one.good,
            one.bad,
            _behaviour(PRIMER_BEHAVIOURS[one.behaviour]),
        )
        for i, one in enumerate(generate_minimal_pairs(N_PRIMER_PAIRS, given.seed))
    ]
    drawn = draw(every, given, "minimal_pairs", lambda pair: pair.group)
    return _measure(given, "minimal_pairs", every, drawn)


def _measure(
    given: MeasureInput, task: str, data: Sequence[object], pairs: Sequence[PairItem]
) -> BenchmarkResult:
    """The result for some pairs of the data. `margin`: how much likelier the good one is, in nats."""
    texts, items = measure_pairs(given, pairs, "accuracy")
    return summarize_items(protocol(task, given, data, texts, chat=False), items, "accuracy")


def _with_groups(result: BenchmarkResult, names: Mapping[str, str]) -> BenchmarkResult:
    """The result with further groups: those of its groups that have one of `names` together."""
    groups = dict(result.groups)
    for name in sorted(set(names.values())):
        items = [item for item in result.items if names.get(str(item.group)) == name]
        groups[name] = summarize_items(result.protocol, items, result.main).scores
    return dataclasses.replace(result, groups=groups)


def _behaviour(name: str) -> str:
    return f"{name} {BEHAVIOURS[name]}"
