"""The students of one seed: taught, by labels alone from the same start, by labels alone from fresh weights.

All see the same rows for as many steps. The rates of the two that begin alike were chosen apart from each other, each as
the better of two on a seed that is measured nowhere (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of students that begin as layers of the teacher: half and all of what the size dial gives to fresh models.
RATES = {
    "slow": {"learning_rate": 0.01, "embedding_learning_rate": 0.002},
    "fast": {"learning_rate": 0.02, "embedding_learning_rate": 0.004},
}
SIDES = ("student", "labels_only", "fresh")


@dataclass(frozen=True)
class Setting:
    """One distillation: who teaches on what and how, and how a model is judged. `score` takes a model folder and a
    seed and returns named figures, of which `suite_mean` is the one that must be kept.
    """

    name: str
    teacher: Path
    shards: Path
    keep_layers: int
    max_steps: int
    taught: Mapping[str, Any]
    rates: Mapping[str, str]  # of each side, from `RATES`
    also: Mapping[str, Any]  # for all of them
    score: Callable[[Path, int], dict[str, float]]


def trained(setting: Setting, side: str, seed: int, folder: Path) -> Path:
    """The folder of one student; one that is there already is taken as it is."""
    from parakit.compression.config import DistillConfig
    from parakit.stages.distillation import DistillJob
    from parakit.stages.job import run_job

    out = folder / f"{side}-{seed}"
    if out.exists():
        return out
    taught = setting.taught if side == "student" else {"hard_label_share": 1.0}
    settings = {"max_steps": setting.max_steps, "seed": seed, "device": "cpu", "compile": "off"}
    settings |= {"validate_every": 10**6, **RATES[setting.rates[side]], **setting.also, **taught}
    if side == "fresh":
        settings |= {"student": str(untrained(setting, seed, folder))}
    else:
        settings |= {"keep_layers": setting.keep_layers}
    training = DistillConfig.parse(settings)
    run_job(DistillJob(setting.teacher, setting.shards, folder / f".{out.name}", training), out)
    return out


def untrained(setting: Setting, seed: int, folder: Path) -> Path:
    """A model of the student's shape that has learned nothing."""
    from parakit.checkpoints import load_model, save_model
    from parakit.common.artifacts import Lineage
    from parakit.common.seeds import seed_everything
    from parakit.compression.distillation.students import config_from_layers
    from parakit.stages.task_models import build_model

    teacher, tokenizer = load_model(setting.teacher)
    seed_everything(seed)
    model = build_model(config_from_layers(teacher.config, setting.keep_layers))
    path = folder / f"untrained-{seed}"
    return save_model(model, tokenizer, path, Lineage("model", seed=seed), overwrite=True)
