"""Self-consistency and best of n on arithmetic problems: accuracy against n and against tokens, with the choice's errors.

The replies of one sampling serve all methods: votes, a verifier that recomputes every written step without knowing the
answer, a reward model where one is given, and coverage, the bound of all. Greedy answers after thinking of a forced length
are measured next to them; with `think` also of a model that is tuned to write its steps as reasoning (`<think>`).
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.harness import run_parakit, work_folder
from benchmarks.quality.assistants.prompt_forms import write_thinking
from benchmarks.quality.assistants.prompt_pictures import draw_curves
from benchmarks.quality.assistants.prompt_tables import CHECKER, write_tables
from benchmarks.registry import NO_TARGET, Figures, benchmark

STEPS = Path(__file__).with_name("step_checks.py")
PROMPT = """\
name: steps
template: "{{ question }}"
answer_after: The answer is
settings: {max_new_tokens: 64}
"""
THINKING = PROMPT.replace("answer_after: The answer is\n", "")


@benchmark("best_of_n", {
    "votes.gain": ("> 0", "votes of all replies: gain over one reply"),
    "votes.curve.*": (NO_TARGET, "votes of {0} replies: right answers"),
    "steps.curve.*": (NO_TARGET, "best of {0} by recomputed steps: right answers"),
    "coverage.curve.*": (NO_TARGET, "a right answer among {0}"),
    "thinking.curve.*": (NO_TARGET, "right after {0} tokens of reasoning, tuned to reason"),
    "*.missed": (NO_TARGET, "{0}: a wrong reply is chosen although there is a right one"),
})  # fmt: skip
def best_of_n(
    *,
    model: Path,
    reward_model: Path | None = None,
    items: int = 200,
    n_samples: int = 32,
    temperature: float = 1.0,
    budgets: tuple[int, ...] = (4, 8, 16, 24, 32, 48),
    think: Path | None = None,
    n_conversations: int = 6000,
    work: Path | None = None,
) -> Figures:
    """`model`: a chat model that answers the primer's arithmetic problems. `think`: a model of the primer that is tuned on
    `n_conversations` with reasoning, and answers after reasoning of each budget.
    """
    with work_folder(work) as folder:
        table, _ = write_tables(folder, items)["arithmetic"]
        prompt = folder / "steps.yaml"
        prompt.write_text(PROMPT)
        verifiers = ["votes", str(STEPS), *([str(reward_model)] if reward_model else [])]
        options = (
            "--n-samples",
            str(n_samples),
            "--temperature",
            str(temperature),
            "--verifiers",
            *verifiers,
        )
        curves, errors = _sample(model, prompt, table, budgets, options, folder / "samples")
        if think is not None:
            curves["thinking"] = _thinking(think, n_conversations, table, budgets, folder)
    names = {"votes": "votes", str(STEPS): "steps", str(reward_model): "reward_model"}
    draw_curves({names.get(key, key): points for key, points in curves.items()})
    found: Figures = {"items": items, "n_samples": n_samples, "temperature": temperature}
    for key, points in curves.items():
        name = names.get(key, re.sub(r"\W+", "_", key))
        curve = {str(one["n"]): one["value"] for one in points}
        found[name] = {
            "curve": curve,
            "gain": points[-1]["value"] - points[0]["value"],
            "points": points,
            **(errors.get(key) or {}),
        }
    return found


def _sample(
    model: Path, prompt: Path, table: Path, budgets: tuple[int, ...], options: tuple[str, ...], out: Path
) -> tuple[Figures, Figures]:
    """The curves and the errors of the choices."""
    run = run_parakit(
        *("prompts", "sample", model, prompt, "--items", table, "--metric", "checker", "--checker", CHECKER),
        *("--budgets", *map(str, budgets), *options),
        *("--device", "cpu", "--output", out, "--overwrite", "--json"),
    )
    return run.figures["curves"], run.figures["errors"]


def _thinking(
    base: Path, n_conversations: int, table: Path, budgets: tuple[int, ...], folder: Path
) -> list[Figures]:
    """Right answers of the tuned model after reasoning of each budget."""
    model, prompt, rows = folder / "thinker" / "model", folder / "thinking.yaml", folder / "thinking.jsonl"
    prompt.write_text(THINKING)
    if not model.exists():
        write_thinking(rows, n_conversations)
        run_parakit("finetune", base, "--conversations", rows, "--device", "cpu", "--output", model)
    curves, _ = _sample(model, prompt, table, budgets, ("--n-samples", "2"), folder / "thought")
    return list(curves["budget"])
