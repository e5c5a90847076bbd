"""Reward models on held-out preferences: the primer's, and two public sets, against a length-only judge and chance.

Every one starts from the same tuned primer model (`--model`, a model folder of `parakit build`), is trained with every
seed on the training split of its set and judged on the test split: of the primer those combinations that are never
trained on, of the public sets a tenth of the prompts. Public sets that are missing are skipped.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, summary
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.alignment.config import RewardConfig
from parakit.checkpoints.loading import load_model
from parakit.data.preferences import iter_preferences, prepare_preferences
from parakit.evaluation.preferences import evaluate_preferences
from parakit.primer.config import PrimerConfig
from parakit.primer.sources import primer_preferences
from parakit.stages.alignment import AlignJob
from parakit.stages.job_builders import align

PUBLIC = {
    "hh_rlhf": "hh_rlhf/test.jsonl.gz",
    "llms_from_scratch_instruct": "llms_from_scratch_instruct/instruction-data-with-preference.json.gz",
}
SETS = ("primer", *PUBLIC)


@benchmark("reward_model", {
    "primer.accuracy": (">= 0.9", "built-in preferences: accuracy on held-out pairs"),
    "hh_rlhf.accuracy": (NO_TARGET, "hh_rlhf: accuracy on held-out pairs"),
    "llms_from_scratch_instruct.accuracy": (NO_TARGET, "llms_from_scratch_instruct: accuracy on held-out pairs"),
    "*.over_length_judge": ("> 0", "{0}: accuracy above that of a judge of length"),
})  # fmt: skip
def reward_model(
    *,
    model: Path,
    sets: tuple[str, ...] = SETS,
    epochs: float = 2.0,
    seeds: int = 5,
    max_steps: int | None = None,
) -> Figures:
    """`model` is a model folder tuned for chat; `max_steps` instead of `epochs` makes a short run."""
    length = {"max_steps": max_steps} if max_steps else {"epochs": epochs}
    figures: Figures = {"model": model.name, "seeds": seeds, **length}
    for name in sets:
        if name == "primer" or (DATA / PUBLIC[name]).is_file():
            figures[name] = over_seeds(model, name, length, seeds)
    return figures


def over_seeds(model: Path, name: str, length: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Median and spread of what every seed's reward model reaches; the calibration is the first one's."""
    runs = [
        train_and_evaluate(model, name, RewardConfig(compile="off", seed=seed, **length))
        for seed in range(seeds)
    ]
    names = ("accuracy", "over_length_judge", "calibration_error", "length_correlation", "seconds")
    return {
        **{key: summary([run[key] for run in runs]) for key in names},
        "length_baseline": runs[0]["length_baseline"],
        "pairs": runs[0]["pairs"],
        "steps": runs[0]["steps"],
        "reliability": runs[0]["reliability"],
    }


def train_and_evaluate(model: Path, name: str, training: RewardConfig) -> dict[str, Any]:
    """Train on a set and judge its test split."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "model"
        if name == "primer":
            prepare_preferences(primer_preferences(PrimerConfig()), data)
        else:
            prepare_preferences([str(DATA / PUBLIC[name])], data, test_fraction=0.1)
        trained = align(AlignJob(model, data, Path(folder) / "work", training), out)
        judge, tokenizer = load_model(out)
        assert tokenizer is not None
        found = evaluate_preferences(judge, tokenizer, iter_preferences(data, "test"))  # type: ignore[arg-type]
    found["over_length_judge"] = found["accuracy"] - found["length_baseline"]
    return found | {"steps": trained["steps"], "seconds": trained["seconds"]}
