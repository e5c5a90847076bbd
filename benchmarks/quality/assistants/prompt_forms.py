"""Conversations in the forms of the library's prompts, out of the primer's training exercises.

A model that is tuned on them answers a bare question at once, and writes its steps only where the prompt wants them: by its
words (`chain_of_thought`), or by examples whose answers have steps (`few_shot`). It shows what a prompt brings to a model that
knows the prompt's form.
"""

from __future__ import annotations

import json
from pathlib import Path

from parakit.assistants.prompts.library import open_prompt
from parakit.common.files import JsonObject
from parakit.primer.exercise import Exercise
from parakit.primer.seeded_random import Random
from parakit.primer.skills import agreement, arithmetic, reference, sentiment

SKILLS = (arithmetic, arithmetic, sentiment, agreement, reference)  # sums have the most to learn
FORMS = ("zero_shot", "zero_shot", "instruction", "few_shot", "chain_of_thought", "role")
N_SHOTS = 2


def write_forms(path: Path, n: int, seed: int = 0) -> None:
    """Write `n` conversations as JSON lines. No exercise is one of the suites': those are held out."""
    random = Random(seed, "prompt forms")
    with path.open("w", encoding="utf-8") as file:
        for _ in range(n):
            file.write(json.dumps({"messages": _conversation(random)}) + "\n")


def write_thinking(path: Path, n: int, seed: int = 0) -> None:
    """Write `n` conversations whose reasoning has the steps, and whose answer is the result alone."""
    random = Random(seed, "prompt thinking")
    with path.open("w", encoding="utf-8") as file:
        for _ in range(n):
            exercise = arithmetic.draw(random)
            steps = exercise.answer.partition(" The answer is")[0]
            answer = {"role": "assistant", "reasoning_content": steps, "content": f"{_alone(exercise)}."}
            messages = [{"role": "user", "content": exercise.question}, answer]
            file.write(json.dumps({"messages": messages}) + "\n")


def _conversation(random: Random) -> list[JsonObject]:
    skill, form = random.pick(SKILLS), random.pick(FORMS)
    prompt = open_prompt(form)
    exercise = skill.draw(random)
    shown = [skill.draw(random) for _ in range(N_SHOTS if form == "few_shot" else 0)]
    examples = [{"question": one.question, "answer": one.answer} for one in shown]
    messages = [
        one.to_row() | ({"weight": 0} if one.role == "assistant" else {})  # answers of examples are context
        for one in prompt.messages({"question": exercise.question}, examples)
    ]
    return [*messages, {"role": "assistant", "content": _reply(form, exercise)}]


def _reply(form: str, exercise: Exercise) -> str:
    """The whole answer after examples with whole answers, steps and "The answer is" for a chain of thought, else the answer
    alone.
    """
    if form == "few_shot":
        return exercise.answer
    alone = _alone(exercise)
    if form != "chain_of_thought":
        return f"{alone}."
    steps = exercise.answer.removesuffix(f"The answer is {alone}.").strip()
    return f"{steps} The answer is {alone}."


def _alone(exercise: Exercise) -> str:
    """The answer without steps and without a sentence."""
    if exercise.check == "final_answer":
        return exercise.answer.rstrip(".").split()[-1]
    if exercise.check == "contains_all":
        return exercise.accept[0]
    return exercise.answer.rstrip(".")
