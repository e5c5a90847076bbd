"""A fall of five points that is planted in real answers: how often a comparison and the gate of a build report it, and how
often they report a fall where there is none.

The answers are those of the published 135M model and of its int4 form to BLiMP's and the primer's minimal pairs. A trial
draws `n_items` of the items with replacement and gives each item's two answers to the two sides at random: the sides
disagree as often as the real models do, and neither is better. Then every right answer of the second side is made wrong with
the chance that lowers its accuracy by five points. The same with sides that disagree on a quarter of the items, as two runs
of one recipe may. A comparison has one benchmark; the gate has eight suites, each of an eighth of the items.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness import DATA, kept_or_measured, work_folder
from benchmarks.quality.real_models.data import find_source
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.common.seeds import rng
from parakit.evaluation.comparison.config import CompareConfig, GateConfig
from parakit.evaluation.comparison.models import compare_models
from parakit.evaluation.comparison.outcome import ModelScores
from parakit.evaluation.comparison.paired_tests import items_needed, paired_test
from parakit.evaluation.comparison.pipeline import ACROSS_STAGES, falls
from parakit.evaluation.results import BenchmarkResult, Item, Protocol, summarize_items

FALL, OFTEN, N_SUITES = 0.05, 0.25, 8
PROTOCOL = Protocol("planted", "1", "parakit 1", "data", "prompts")
Answers = np.ndarray
"""Whether each answer is right, (2, N): of the two sides."""


@benchmark("regression_detection", {
    "real.comparison.detected": (">= 0.95", "falls of 5 points that compare reports, 2,000 items, real disagreement"),
    "real.comparison.false_alarms": ("<= 0.05", "falls that it reports where there is none"),
    "real.gate.detected": (">= 0.95", "falls of 5 points that stop a build (8 suites of 250)"),
    "real.gate.false_alarms": ("<= 0.05", "builds that are stopped where there is no fall"),
    "often.comparison.detected": (">= 0.95", "the same with sides that disagree on a quarter of the items: compare"),
    "often.comparison.false_alarms": ("<= 0.05", "false alarms of compare there"),
    "often.gate.detected": (">= 0.95", "falls that stop a build there"),
    "often.gate.false_alarms": ("<= 0.05", "false alarms of the gate there"),
    "real.disagreement": (NO_TARGET, "share of items on which the real pair disagrees"),
    "real.items_needed": (NO_TARGET, "items that a fall of 5 points needs by Connor's formula, power 95 %"),
    "often.items_needed": (NO_TARGET, "the same where the sides disagree on a quarter"),
    "sizes.*.comparison.detected": (NO_TARGET, "falls reported with {0} items, disagreement of the real pair"),
})  # fmt: skip
def regression_detection(
    n_trials: int = 200, n_items: int = 2000, n_pairs: int = 670, work: Path | None = None
) -> Figures:
    """Measure `n_trials` of each kind. `n_pairs`: of BLiMP, the primer's 500 come on top; `work`: keeps the answers."""
    with work_folder(work) as place:
        answers = np.array(kept_or_measured(place / "answers.json", lambda: _measure(n_pairs))["right"], bool)
    often = _disagreeing(answers, OFTEN)
    figures: Figures = {
        "n_trials": n_trials,
        "n_items": n_items,
        "accuracy": {"float32": float(answers[0].mean()), "int4": float(answers[1].mean())},
        "real": _rates(answers, n_trials, n_items),
        "often": _rates(often, n_trials, n_items),
        "sizes": {
            str(n): {"comparison": _rates_of(_compare, answers, n_trials, n)} for n in (250, 500, 1000)
        },
    }
    return figures


def _rates(answers: Answers, n_trials: int, n_items: int) -> Figures:
    test = paired_test(*answers.astype(float))
    return {
        "disagreement": test.variance,
        "items_needed": items_needed(test, FALL, level=0.05, power=0.95),
        "comparison": _rates_of(_compare, answers, n_trials, n_items),
        "gate": _rates_of(_gate, answers, n_trials, n_items),
    }


def _rates_of(
    reports_fall: Callable[[Answers], bool], answers: Answers, n_trials: int, n_items: int
) -> Figures:
    """How often a fall is reported where one is planted, and where none is."""
    counts = {0.0: 0, FALL: 0}
    for trial in range(n_trials):
        for fall in counts:
            drawn = _without_difference(answers, n_items, trial)
            chance = fall / max(drawn[1].mean(), FALL)
            drawn[1] &= rng(trial, "fall").random(n_items) >= chance
            counts[fall] += reports_fall(drawn)
    return {"detected": counts[FALL] / n_trials, "false_alarms": counts[0.0] / n_trials}


def _without_difference(answers: Answers, n_items: int, trial: int) -> Answers:
    """Items drawn with replacement, each one's two answers in a random order."""
    generator = rng(trial, "items")
    drawn = answers[:, generator.integers(0, answers.shape[1], n_items)]
    return np.where(generator.random(n_items) < 0.5, drawn, drawn[::-1])


def _disagreeing(answers: Answers, share: float) -> Answers:
    """The answers with as many of the second side turned over that the two disagree on `share` of the items."""
    found = answers.copy()
    same = np.flatnonzero(found[0] == found[1])
    n = max(round(share * found.shape[1]) - (found.shape[1] - len(same)), 0)
    found[1, rng(0, "turn").permutation(same)[:n]] ^= True
    return found


def _compare(answers: Answers) -> bool:
    """Whether a comparison of one benchmark finds the second side worse."""
    first, second = (_scores([side]) for side in answers)
    return compare_models(first, [second], CompareConfig())[0].verdict == "worse"


def _gate(answers: Answers) -> bool:
    """Whether the gate stops at the second side, with eight suites."""
    first, second = (_scores(np.array_split(side, N_SUITES)) for side in answers)
    gate = GateConfig()
    (found,) = compare_models(first, [second], ACROSS_STAGES.replace(level=gate.level))
    return bool(falls(found, gate))


def _scores(parts: list[Answers]) -> ModelScores:
    return ModelScores("side", suites={f"suite {i}": _result(part) for i, part in enumerate(parts)})


def _result(right: Answers) -> BenchmarkResult:
    items = [Item(str(i), "", "", "", {"right": float(one)}) for i, one in enumerate(right)]
    return summarize_items(PROTOCOL, items, "right")


def _measure(n_pairs: int) -> Figures:
    """Both models' answers to the same minimal pairs."""
    import tempfile

    from benchmarks.harness import run_parakit
    from parakit.checkpoints.loading import load_model

    with tempfile.TemporaryDirectory() as folder:
        source, quantized = find_source("smollm2"), Path(folder) / "int4"
        run_parakit("import", source, "--output", Path(folder) / "float32")
        run_parakit("quantize", Path(folder) / "float32", "--bits", "4", "--output", quantized, timeout=7200)
        models = [load_model(path) for path in (Path(folder) / "float32", quantized)]
    return {"right": [_pairs_right(model, tokenizer, n_pairs) for model, tokenizer in models]}


def _pairs_right(model: object, tokenizer: object, n_pairs: int) -> list[bool]:
    from parakit.evaluation.measures.measure import MeasureInput
    from parakit.evaluation.measures.registry import MEASURES

    right = []
    for name, n in (("minimal_pairs", None), ("blimp", n_pairs)):
        result = MEASURES[name].run(MeasureInput(model, tokenizer, Path(), DATA, chat=False, n_items=n))  # type: ignore[arg-type]
        right += [item.scores[result.main] == 1 for item in result.items]
    return right
