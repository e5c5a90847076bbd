"""A student with 40 % fewer parameters against its teacher, and against itself without one: suites, labels and speed.

Decoder: the primer's tuned model teaches a student that begins as two of its five layers, on the conversations that
tuned it. Encoder: a small encoder fills masks (DistilBERT's recipe), then both are tuned for the same labels. On the
same data, for as many steps, two more students learn from labels alone: one that begins as the same layers, and one
with fresh weights, which has nothing of the teacher.

`parakit build` makes the decoder's teacher (`--build` names the folder); the encoder's is built here.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Figures, paired, report, summary

SIDES = ("student", "labels_only", "fresh")
# What the student is taught with, and how it learns; the other two have the same steps and rates (fresh: its own).
DECODER: dict[str, Any] = {"hidden_coef": 1.0, "hard_label_share": 0.5}
ENCODER: dict[str, Any] = {"hidden_coef": 0.5, "hard_label_share": 0.3, "distill_temperature": 2.0}
STARTED = {"learning_rate": 0.01, "embedding_learning_rate": 0.002}
FRESH = {"learning_rate": 0.02, "embedding_learning_rate": 0.004}


@dataclass(frozen=True)
class Setting:
    """One distillation: who teaches on what, and how the finished model is judged."""

    teacher: Path
    shards: Path
    keep_layers: int
    max_steps: int
    taught: Mapping[str, Any]
    score: Callable[[Path], float]


def main(words: list[str]) -> None:
    """Distil every seed, measure, and report."""
    parser = argparse.ArgumentParser(
        prog="make bench NAME=distillation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--build", default="builds/primer", help="a finished build of the primer")
    parser.add_argument("--parts", nargs="+", choices=("decoder", "encoder"), default=["decoder", "encoder"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=500, help="of each student of the decoder; the encoder's too"
    )
    parser.add_argument("--encoder-tokens", type=int, default=1_500_000, help="that its teacher learns from")
    parser.add_argument("--suite-items", type=int, default=250, help="questions of each suite")
    arguments = parser.parse_args(words)
    import torch

    torch.set_num_threads(1)
    figures: Figures = {"seeds": arguments.seeds, "steps": arguments.steps}
    bar: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts:
            make = decoder if part == "decoder" else encoder
            started = time.process_time()
            figures[part] = compared(make(arguments, Path(folder)), arguments.seeds, Path(folder) / part)
            figures[part]["cpu_minutes_a_seed"] = (time.process_time() - started) / 60 / arguments.seeds
            bar |= {
                f"{part}.share_of_parameters": "<= 0.6",
                f"{part}.kept": ">= 0.97",
                f"{part}.gain_over_labels_only": "> 0",
                f"{part}.gain_over_fresh": "> 0",
                f"{part}.speed.forward": ">= 1.6",
            }
        if "decoder" in arguments.parts:
            bar["decoder.speed.generation"] = ">= 1.6"
    report("distillation", figures, bar)


def decoder(arguments: argparse.Namespace, folder: Path) -> Setting:
    """The primer's tuned model, judged by its suites."""
    build = Path(arguments.build)
    return Setting(
        teacher=build / "finetune",
        shards=build / "conversation_shards",
        keep_layers=2,
        max_steps=arguments.steps,
        taught=DECODER,
        score=lambda model: suite_mean(model, arguments.suite_items),
    )


def encoder(arguments: argparse.Namespace, folder: Path) -> Setting:
    """An encoder that fills masks in the primer's text, judged by how well it tells opinions apart once tuned."""
    from parakit.recipe import build, load_recipe

    changes = {
        "finetune.epochs": None,
        "finetune.max_steps": 1,
        "pretrain.max_tokens": arguments.encoder_tokens,
    }
    recipe = load_recipe(ROOT / "recipes" / "encoder-classifier.yaml", changes)
    build(recipe, folder / "builds")
    made = folder / "builds" / "encoder-classifier"
    return Setting(
        teacher=made / "pretrain",
        shards=made / "shards",
        keep_layers=2,
        max_steps=arguments.steps,
        taught=ENCODER,
        score=lambda model: label_accuracy(model, made, folder),
    )


def compared(setting: Setting, n_seeds: int, folder: Path) -> Figures:
    """All students of every seed, and what they keep of their teacher."""
    teacher = setting.score(setting.teacher)
    scores: dict[str, list[float]] = {side: [] for side in SIDES}
    for seed in range(n_seeds):
        for side in SIDES:
            model = trained(setting, side, seed, folder)
            scores[side].append(setting.score(model))
            print(f"seed {seed} {side}: {scores[side][-1]:.4f} (teacher {teacher:.4f})", flush=True)
    student = scores["student"]
    return {
        "teacher": teacher,
        **{side: summary(found) for side, found in scores.items()},
        "kept": summary([score / teacher for score in student]),
        "gain_over_labels_only": summary(
            [a - b for a, b in zip(student, scores["labels_only"], strict=True)]
        ),
        "gain_over_fresh": summary([a - b for a, b in zip(student, scores["fresh"], strict=True)]),
        "share_of_parameters": n_params(folder / "student-0") / n_params(setting.teacher),
        "speed": speed(folder / "student-0", setting.teacher),
    }


def trained(setting: Setting, side: str, seed: int, folder: Path) -> Path:
    """The folder of one student."""
    from parakit.compression.config import DistillConfig
    from parakit.recipe.training.distilling import Distilling, StudentWanted, distill

    out = folder / f"{side}-{seed}"
    taught = setting.taught if side == "student" else {"hard_label_share": 1.0}
    rates = FRESH if side == "fresh" else STARTED
    training = DistillConfig(
        max_steps=setting.max_steps,
        seed=seed,
        device="cpu",
        validate_every=10**6,
        compile="off",
        **rates,
        **taught,
    )
    wanted = StudentWanted(keep_layers=setting.keep_layers)
    if side == "fresh":
        wanted = StudentWanted(folder=untrained(setting, seed, folder))
    distill(Distilling(setting.teacher, setting.shards, folder / f".{out.name}", training, wanted), out)
    return out


def untrained(setting: Setting, seed: int, folder: Path) -> Path:
    """A model of the student's shape that has learned nothing."""
    from parakit.checkpoints import load_model, save_model
    from parakit.common.artifacts import Lineage
    from parakit.common.seeds import seed_everything
    from parakit.compression.distillation.students import shape_from_layers
    from parakit.recipe.training.task_models import fresh_model

    teacher, tokenizer = load_model(setting.teacher)
    seed_everything(seed)
    model = fresh_model(shape_from_layers(teacher.config, setting.keep_layers))
    return save_model(model, tokenizer, folder / f"untrained-{seed}", Lineage("model", seed=seed))


def suite_mean(model: Path, n_items: int) -> float:
    """The mean share of right answers over the primer's held-out suites."""
    from parakit.evaluation.config import EvaluationConfig
    from parakit.evaluation.evaluate import evaluate_model
    from parakit.text.config import PrimerConfig

    config = EvaluationConfig(suites=PrimerConfig(seed=0, n_suite_items=n_items))
    suites = evaluate_model(model, config)["suites"]
    return sum(suite["accuracy"] for suite in suites.values()) / len(suites)


def label_accuracy(model: Path, build: Path, folder: Path) -> float:
    """How many held-out opinions a copy of `model` tells apart after it was tuned for them, always the same way."""
    from parakit.evaluation.config import EvaluationConfig
    from parakit.evaluation.evaluate import evaluate_model
    from parakit.recipe.training.config import FinetuneConfig
    from parakit.recipe.training.jobs import Finetuning, finetune

    out = folder / "tuned"
    training = FinetuneConfig(epochs=1, seed=0, device="cpu", compile="off", validate_every=10**6)
    finetune(
        Finetuning(model, build / "example_shards", folder / ".tuned", training, "classify"),
        out,
        overwrite=True,
    )
    found = evaluate_model(out, EvaluationConfig(examples=str(build / "examples")))["examples"]
    return next(row["value"] for row in found["figures"] if row["name"] == "accuracy")


def n_params(model: Path) -> int:
    """Parameters of a model folder."""
    from parakit.checkpoints.model_folder import read_config

    return read_config(model).n_params()["total"]


def speed(student: Path, teacher: Path, repeats: int = 5) -> Figures:
    """How many times as fast the student reads rows and, where it writes, writes tokens: both in turn, round by
    round.
    """
    import torch

    from parakit.checkpoints import load_model
    from parakit.inference.config import SamplingConfig
    from parakit.inference.decoding import generate_ids

    ids = torch.randint(5, 300, (16, 96), generator=torch.Generator().manual_seed(0))
    config = SamplingConfig(temperature=0.0, max_new_tokens=64)

    def side(path: Path) -> Callable[[], Mapping[str, float]]:
        model: Any = load_model(path)[0]

        def run() -> Mapping[str, float]:
            found = {}
            with torch.inference_mode():
                started = time.process_time()
                for _ in range(3):
                    model(ids)
                found["forward"] = 3 * ids.numel() / (time.process_time() - started)
            if model.config.family == "decoder":
                started = time.process_time()
                answers = generate_ids(model, ids[:8, :32].tolist(), config)
                found["generation"] = sum(map(len, answers)) / (time.process_time() - started)
            return found

        run()  # warm
        return run

    return paired(side(student), side(teacher), repeats)["ratio"]
