"""The primer's suites as tables of `parakit prompts`: test items of one seed, training rows of another."""

from __future__ import annotations

import json
from pathlib import Path

from parakit.primer import generate_suites
from parakit.primer.config import PrimerSuitesConfig
from parakit.primer.grading import SuiteItem

CHECKER = Path(__file__).with_name("prompt_checks.py")
TEST_SEED, TRAIN_SEED = 101, 102
SUITES = ("arithmetic", "sentiment", "agreement", "reference")


def write_tables(folder: Path, items: int) -> dict[str, tuple[Path, Path]]:
    """Of each suite the table of test items and that of training rows."""
    found = {}
    suites = [
        generate_suites(PrimerSuitesConfig(seed=seed, n_suite_items=items))
        for seed in (TEST_SEED, TRAIN_SEED)
    ]
    for name in SUITES:
        paths = (folder / f"{name}.jsonl", folder / f"{name}-train.jsonl")
        for path, suite in zip(paths, suites, strict=True):
            path.write_text("".join(json.dumps(_row(item)) + "\n" for item in suite[name]))
        found[name] = paths
    return found


def _row(item: SuiteItem) -> dict[str, object]:
    return {
        "question": item.messages[-1].content,
        "answer": item.answer,
        "check": item.check,
        "accept": list(item.accept),
        "reject": list(item.reject),
    }
