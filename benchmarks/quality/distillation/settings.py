"""The two distillations that are measured: which teacher, on what, taught how, judged by what.

The decoder's teacher is a build's base, tuned for two epochs on all of its conversations; the labels that students have
are two fifths of them, as where a model is published and its data is not. The encoder's is made here by its recipe.
"""

from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.quality.distillation.encoder_suite import Suite
from benchmarks.quality.distillation.students import Setting

DECODER: dict[str, Any] = {"hard_label_share": 0.2, "distill_temperature": 2.0, "hidden_coef": 1.0}
ENCODER: dict[str, Any] = {"hard_label_share": 0.5, "distill_temperature": 1.0}
TEACHER_EPOCHS = 2
N_CONVERSATIONS = 8_000  # that students learn from: two fifths of those that tuned their teacher


def decoder(
    build: Path, folder: Path, teacher: Path | None, max_steps: int | None, n_suite_items: int
) -> Setting:
    """The primer's tuned model, judged by its suites."""

    @cache  # greedy answers: the same whatever the seed
    def score(model: Path) -> float:
        return suite_mean(model, n_suite_items)

    teacher = teacher or tuned_teacher(build, folder)
    return Setting(
        name="decoder",
        teacher=teacher,
        shards=few_conversations(build, teacher, folder),
        keep_layers=2,
        max_steps=max_steps or 1500,
        taught=DECODER,
        rates={"student": "slow", "labels_only": "slow", "fresh": "fast"},
        also={},
        score=lambda model, _: {"suite_mean": score(model)},
    )


def few_conversations(build: Path, teacher: Path, folder: Path) -> Path:
    """The first of the build's conversations, as the teacher reads them: a part of what tuned it."""
    from parakit.stages.data import make_conversation_shards, make_conversations
    from parakit.stages.data_config import ConversationsConfig

    file, few, shards = folder / "few.jsonl", folder / "few", folder / "few_shards"
    if not shards.exists():
        with (build / "conversations" / "train.jsonl").open(encoding="utf-8") as lines:
            file.write_text("".join(islice(lines, N_CONVERSATIONS)), encoding="utf-8")
        make_conversations(ConversationsConfig(paths=(str(file),)), few, overwrite=True)
        make_conversation_shards(few, teacher, shards)
    return shards


def tuned_teacher(build: Path, folder: Path) -> Path:
    """The build's base, tuned on all of its conversations."""
    from parakit.stages.config import FinetuneConfig
    from parakit.stages.finetuning import FinetuneJob
    from parakit.stages.job import run_job

    out = folder / "teacher"
    if not out.exists():
        training = FinetuneConfig(epochs=TEACHER_EPOCHS, device="cpu", compile="off", validate_every=10**6)
        shards = build / "conversation_shards"
        run_job(FinetuneJob(build / "pretrain", shards, folder / ".teacher", training), out)
    return out


def suite_mean(model: Path, n_items: int) -> float:
    """The mean share of right answers over the primer's held-out suites."""
    from parakit.evaluation.config import EvaluationConfig
    from parakit.evaluation.evaluate import evaluate_model
    from parakit.primer.config import PrimerConfig

    config = EvaluationConfig(suites=PrimerConfig(seed=0, n_suite_items=n_items))
    suites = evaluate_model(model, config)["suites"]
    return sum(suite["accuracy"] for suite in suites.values()) / len(suites)


def encoder(folder: Path, max_steps: int | None) -> Setting:
    """An encoder that fills masks in the primer's text, judged by what it can be tuned for and how well it fills."""
    from parakit.recipe import build, load_recipe

    made = folder / "encoder-classifier"
    if not (made / "pretrain").exists():
        changes = {
            "size": "1.2m",  # of whose five layers two are half of the parameters
            "pretrain.max_tokens": 1_200_000,
            "finetune.epochs": None,
            "finetune.max_steps": 1,
        }
        build(load_recipe(ROOT / "recipes" / "encoder-classifier.yaml", changes), folder)
    suite = Suite(made, folder)
    return Setting(
        name="encoder",
        teacher=made / "pretrain",
        shards=made / "shards",
        keep_layers=2,
        max_steps=max_steps or 250,
        taught=ENCODER,
        rates=dict.fromkeys(("student", "labels_only", "fresh"), "fast"),
        also={"whole_word": True},  # as its recipe masks
        score=suite.scores,
    )
