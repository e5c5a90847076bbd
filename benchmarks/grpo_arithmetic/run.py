"""GRPO with checked answers on stories that are harder than what tuning covered: with a sentence beside the point.

The primer's stories are all about one person's things. Here a sentence about somebody else's stands between them, which
no document and no conversation has; the tuned model takes it for one more event, or for the beginning. Learned is from
the training side of the keyed hash, measured on the other side, greedily, before and after, on the same questions. The
reward is 1 where the last number is right. `parakit align` runs as a user would run it, in a process of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import SHOWN, Figures, report, run_parakit, summary
from parakit.checkpoints.model_folder import load_model
from parakit.data.conversations.conversation import Conversation, Message, write_conversations
from parakit.evaluation.intervals import wilson_interval
from parakit.inference import SamplingConfig, generate_batch
from parakit.model.heads import LanguageModel
from parakit.primer.exercise import Exercise
from parakit.primer.grading import final_number
from parakit.primer.seeded_random import Random
from parakit.primer.skills import arithmetic

N_TRAIN, N_TEST, N_STEPS = 3000, 300, (1, 2)
SETTINGS = (
    "--optimizer adamw --schedule constant --learning-rate 4e-4 --kl-coef 0 --rollout-prompts 32 --group-size 8"
    " --minibatches 2 --max-new-tokens 48"
)


def main(words: list[str]) -> None:
    """Train for every seed and write the result."""
    parser = argparse.ArgumentParser(prog="make bench NAME=grpo_arithmetic", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a primer model tuned for chat")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--phases", type=int, default=60, help="of rollouts: 256 completions, two steps")
    parser.add_argument(
        "--taught-share", type=float, default=0.25, help="questions of the known kind among them"
    )
    arguments = parser.parse_args(words)
    test = _exercises("test", N_TEST, held_out=True)
    before, said_before = _answers(arguments.model, test)
    with TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        kept = _taught(held_out=False)[: round(arguments.taught_share * N_TRAIN)]
        write_conversations(
            prompts, map(_conversation, [*_exercises("train", N_TRAIN, held_out=False), *kept])
        )
        rounds = [
            _round(arguments.model, prompts, Path(folder) / f"seed-{seed}", seed, 2 * arguments.phases, test)
            for seed in range(arguments.seeds)
        ]
    figures: Figures = {
        "accuracy_before": before,
        "interval_before": list(wilson_interval(round(before * N_TEST), N_TEST)),
        "accuracy_after": summary([found["accuracy"] for found in rounds]),
        "points_gained": summary([100 * (found["accuracy"] - before) for found in rounds]),
        "taught_before": _answers(arguments.model, _taught())[0],
        "taught_after": summary([found["taught"] for found in rounds]),
        "seconds": summary([found["seconds"] for found in rounds]),
        "samples": [
            {"question": test[i].question, "answer": test[i].answer, "before": said_before[i],
             "after": rounds[0]["said"][i]}
            for i in range(6)
        ],
    }  # fmt: skip
    report(
        "grpo_arithmetic",
        figures,
        {"points_gained": ">= 15", "accuracy_before": SHOWN, "accuracy_after": SHOWN, "taught_after": SHOWN},
    )


def _round(
    model: Path, prompts: Path, out: Path, seed: int, n_steps: int, test: Sequence[Exercise]
) -> dict[str, Any]:
    words: list[str | Path] = ["align", model, "--method", "grpo", "--prompts", prompts]
    words += ["--reward", "final_answer", "--output", out, "--seed", str(seed), "--max-steps", str(n_steps)]
    run = run_parakit(*words, *SETTINGS.split(), "--json", timeout=7200)
    accuracy, said = _answers(out, test)
    taught, _ = _answers(out, _taught())
    return {"accuracy": accuracy, "said": said, "taught": taught, "seconds": run.seconds}


def _exercises(name: str, n: int, held_out: bool) -> list[Exercise]:
    random = Random(0, "grpo", name)
    return [arithmetic.draw_with_distractor(random, held_out, N_STEPS) for _ in range(n)]


def _taught(held_out: bool = True) -> list[Exercise]:
    """Questions of the kind that tuning covered: what was known must not be lost."""
    random = Random(0, "grpo", "taught", "test" if held_out else "train")
    return [arithmetic.draw(random, held_out) for _ in range(N_TEST if held_out else N_TRAIN)]


def _conversation(exercise: Exercise) -> Conversation:
    return Conversation((Message("user", exercise.question), Message("assistant", exercise.answer)))


def _answers(folder: Path, exercises: Sequence[Exercise]) -> tuple[float, list[str]]:
    """The share of right answers, greedily, and what was said."""
    model, tokenizer = load_model(folder)
    assert isinstance(model, LanguageModel)
    assert tokenizer is not None
    asked = [[Message("user", exercise.question)] for exercise in exercises]
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=64)
    said = [completion.text for completion in generate_batch(model, tokenizer, asked, sampling)]
    right = [final_number(text) == final_number(e.answer) for text, e in zip(said, exercises, strict=True)]
    return sum(right) / len(right), said
