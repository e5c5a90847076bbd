"""The two distillations that are measured: which teacher, on what, taught how, judged by what.

Both teachers are made here: the decoder's from a build's base, the encoder's by its recipe.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.distillation.encoder_suite import Suite
from benchmarks.distillation.students import Setting
from benchmarks.harness import ROOT

DECODER: dict[str, Any] = {"hard_label_share": 0.2, "distill_temperature": 2.0, "hidden_coef": 1.0}
ENCODER: dict[str, Any] = {"hard_label_share": 0.2, "distill_temperature": 2.0, "hidden_coef": 1.0}
TEACHER_EPOCHS = 2
QUIET: dict[str, Any] = {"device": "cpu", "compile": "off", "validate_every": 10**6}


def decoder(arguments: argparse.Namespace, folder: Path) -> Setting:
    """The primer's tuned model, judged by its suites."""

    @cache  # greedy answers: the same whatever the seed
    def score(model: Path) -> float:
        return suite_mean(model, arguments.suite_items)

    shards = arguments.build / "conversation_shards"
    return Setting(
        name="decoder",
        teacher=arguments.teacher or tuned_teacher(arguments.build / "pretrain", shards, folder),
        shards=shards,
        keep_layers=2,
        max_steps=arguments.steps or 500,
        taught=DECODER,
        rates={"student": "fast", "labels_only": "slow", "fresh": "fast"},
        also={},
        score=lambda model, _: {"suite_mean": score(model)},
    )


def tuned_teacher(base: Path, shards: Path, folder: Path) -> Path:
    """`base` tuned on the conversations."""
    from parakit.recipe.training.config import FinetuneConfig
    from parakit.recipe.training.jobs import Finetuning, finetune

    out = folder / "teacher"
    if not out.exists():
        training = FinetuneConfig(epochs=TEACHER_EPOCHS, **QUIET)
        finetune(Finetuning(base, shards, folder / ".teacher", training, "chat"), out)
    return out


def suite_mean(model: Path, n_items: int) -> float:
    """The mean share of right answers over the primer's held-out suites."""
    from parakit.evaluation.config import EvaluationConfig
    from parakit.evaluation.evaluate import evaluate_model
    from parakit.text.config import PrimerConfig

    config = EvaluationConfig(suites=PrimerConfig(seed=0, n_suite_items=n_items))
    suites = evaluate_model(model, config)["suites"]
    return sum(suite["accuracy"] for suite in suites.values()) / len(suites)


def encoder(arguments: argparse.Namespace, folder: Path) -> Setting:
    """An encoder that fills masks in the primer's text, judged by what it can be tuned for and how well it fills."""
    from parakit.recipe import build, load_recipe

    made = folder / "encoder-classifier"
    if not (made / "pretrain").exists():
        changes = {"size": "1.2m", "finetune.epochs": None, "finetune.max_steps": 1}
        build(load_recipe(ROOT / "recipes" / "encoder-classifier.yaml", changes), folder)
    suite = Suite(made, folder)
    return Setting(
        name="encoder",
        teacher=made / "pretrain",
        shards=made / "shards",
        keep_layers=2,
        max_steps=arguments.steps or 400,
        taught=ENCODER,
        rates=dict.fromkeys(("student", "labels_only", "fresh"), "fast"),
        also={"whole_word": True},  # as its recipe masks
        score=suite.scores,
    )
