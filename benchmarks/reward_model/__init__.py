"""Reward models on held-out preferences: the primer's, and two public sets, against a length-only judge and chance.

Every one starts from the same tuned primer model (`--model`, a model folder of `parakit build`), is trained with every
seed on the training split of its set and judged on the test split: of the primer those combinations that are never
trained on, of the public sets a tenth of the prompts. Public sets that are not there are left out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, SHOWN, report, summary
from parakit.alignment.config import AlignConfig
from parakit.checkpoints.model_folder import load_model
from parakit.data.preferences import iter_preferences, prepare_preferences
from parakit.evaluation.preferences import evaluate_preferences
from parakit.primer.config import PrimerConfig
from parakit.primer.sources import primer_preferences
from parakit.stages.alignment import AlignJob, align

PUBLIC = {
    "hh_rlhf": "hh_rlhf/test.jsonl.gz",
    "llms_from_scratch_instruct": "llms_from_scratch_instruct/instruction-data-with-preference.json.gz",
}
SETS = ("primer", *PUBLIC)


def main(words: list[str] | None = None) -> None:
    """Train and judge one reward model a set, and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a tuned chat model")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max-steps", type=int, help="a shorter run, to see that it works")
    arguments = parser.parse_args(words)
    length = {"max_steps": arguments.max_steps} if arguments.max_steps else {"epochs": arguments.epochs}
    figures: dict[str, Any] = {"model": arguments.model.name, "seeds": arguments.seeds, **length}
    for name in arguments.sets:
        if name == "primer" or (DATA / PUBLIC[name]).is_file():
            figures[name] = over_seeds(arguments.model, name, length, arguments.seeds)
    bar = {"primer.accuracy": ">= 0.9"} if "primer" in figures else {}
    bar |= {f"{name}.accuracy": SHOWN for name in PUBLIC if name in figures}
    bar |= {f"{name}.over_length_judge": "> 0" for name in SETS if name in figures}
    report("reward_model", figures, bar)


def over_seeds(model: Path, name: str, length: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Median and spread of what every seed's reward model reaches; the first one's calibration beside them."""
    runs = [judged(model, name, AlignConfig(compile="off", seed=seed, **length)) for seed in range(seeds)]
    told = ("accuracy", "over_length_judge", "calibration_error", "length_correlation", "seconds")
    return {
        **{key: summary([run[key] for run in runs]) for key in told},
        "length_judge": runs[0]["length_judge"],
        "pairs": runs[0]["pairs"],
        "steps": runs[0]["steps"],
        "reliability": runs[0]["reliability"],
    }


def judged(model: Path, name: str, training: AlignConfig) -> dict[str, Any]:
    """Train on a set and judge its test split."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "model"
        if name == "primer":
            prepare_preferences(primer_preferences(PrimerConfig()), data)
        else:
            prepare_preferences([str(DATA / PUBLIC[name])], data, test_fraction=0.1)
        trained = align(AlignJob(model, data, Path(folder) / "work", training, "reward"), out)
        judge, tokenizer = load_model(out)
        assert tokenizer is not None
        found = evaluate_preferences(judge, tokenizer, iter_preferences(data, "test"))  # type: ignore[arg-type]
    found["over_length_judge"] = found["accuracy"] - found["length_judge"]
    return found | {"steps": trained["steps"], "seconds": trained["seconds"]}
