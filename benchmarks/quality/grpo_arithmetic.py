"""GRPO with checked answers on stories that are harder than what tuning covered: with an irrelevant sentence.

The primer's stories are all about one person's things. Here a sentence about somebody else's stands between them, which
no document and no conversation has; the tuned model takes it for one more event, or for the beginning. Training uses
the training side of the keyed hash, the test the other side, greedily, before and after, on the same questions. The
reward is 1 where the last number is right. `parakit align` runs as a user would run it, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import run_parakit, summary
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.checkpoints.loading import load_model
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


@benchmark("grpo_arithmetic", {
    "points_gained": (">= 15", "percentage points gained on held-out questions"),
    "accuracy_before": (NO_TARGET, "accuracy on held-out questions before"),
    "accuracy_after": (NO_TARGET, "accuracy on held-out questions after"),
    "taught_after": (NO_TARGET, "accuracy on the kind that fine-tuning covered, after"),
})  # fmt: skip
def grpo_arithmetic(*, model: Path, seeds: int = 5, phases: int = 60, taught_share: float = 0.25) -> Figures:
    """`model` is a primer model tuned for chat; a phase is 256 completions and two steps; `taught_share` as many prompts
    again are of the kind that fine-tuning covered.
    """
    test = _exercises("test", N_TEST, held_out=True)
    before, answers_before = _answers(model, test)
    with TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        known = _taught(held_out=False)[: round(taught_share * N_TRAIN)]
        exercises = [*_exercises("train", N_TRAIN, held_out=False), *known]
        write_conversations(prompts, map(_conversation, exercises))
        rounds = [
            _round(model, prompts, Path(folder) / f"seed-{seed}", seed, 2 * phases, test)
            for seed in range(seeds)
        ]
    return {
        "accuracy_before": before,
        "interval_before": list(wilson_interval(round(before * N_TEST), N_TEST)),
        "accuracy_after": summary([found["accuracy"] for found in rounds]),
        "points_gained": summary([100 * (found["accuracy"] - before) for found in rounds]),
        "taught_before": _answers(model, _taught())[0],
        "taught_after": summary([found["taught"] for found in rounds]),
        "seconds": summary([found["seconds"] for found in rounds]),
        "samples": [
            {"question": test[i].question, "answer": test[i].answer, "before": answers_before[i],
             "after": rounds[0]["answers"][i]}
            for i in range(6)
        ],
    }  # fmt: skip


def _round(
    model: Path, prompts: Path, out: Path, seed: int, n_steps: int, test: Sequence[Exercise]
) -> dict[str, Any]:
    words: list[str | Path] = ["align", model, "--method", "grpo", "--prompts", prompts]
    words += ["--reward", "final_answer", "--output", out, "--seed", str(seed), "--max-steps", str(n_steps)]
    run = run_parakit(*words, *SETTINGS.split(), "--json", timeout=7200)
    accuracy, answers = _answers(out, test)
    taught, _ = _answers(out, _taught())
    return {"accuracy": accuracy, "answers": answers, "taught": taught, "seconds": run.seconds}


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
    """The share of right answers, greedily, and all answers."""
    model, tokenizer = load_model(folder)
    assert isinstance(model, LanguageModel)
    assert tokenizer is not None
    prompts = [[Message("user", exercise.question)] for exercise in exercises]
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=64)
    answers = [completion.text for completion in generate_batch(model, tokenizer, prompts, sampling)]
    right = [final_number(text) == final_number(e.answer) for text, e in zip(answers, exercises, strict=True)]
    return sum(right) / len(right), answers
