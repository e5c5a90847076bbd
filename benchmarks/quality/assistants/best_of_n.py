"""Self-consistency and best of n on arithmetic problems: accuracy against n and against tokens, with the choice's errors.

The replies of one sampling serve all methods: votes, a verifier that recomputes every written step without knowing the
answer, a reward model where one is given, and coverage, the bound of all. Greedy answers after thinking of a forced length
are measured next to them.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.harness import run_parakit, work_folder
from benchmarks.quality.assistants.prompt_tables import CHECKER, write_tables
from benchmarks.registry import NO_TARGET, Figures, benchmark

STEPS = Path(__file__).with_name("step_checks.py")
PROMPT = """\
name: steps
template: "{{ question }}"
answer_after: The answer is
settings: {max_new_tokens: 64}
"""


@benchmark("best_of_n", {
    "votes.gain": ("> 0", "votes of all replies: gain over one reply"),
    "votes.curve.*": (NO_TARGET, "votes of {0} replies: right answers"),
    "steps.curve.*": (NO_TARGET, "best of {0} by recomputed steps: right answers"),
    "coverage.curve.*": (NO_TARGET, "a right answer among {0}"),
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
    work: Path | None = None,
) -> Figures:
    """`model`: a chat model that answers the primer's arithmetic problems."""
    with work_folder(work) as folder:
        table, _ = write_tables(folder, items)["arithmetic"]
        prompt = folder / "steps.yaml"
        prompt.write_text(PROMPT)
        verifiers = ["votes", str(STEPS), *([str(reward_model)] if reward_model else [])]
        run = run_parakit(
            *(
                "prompts",
                "sample",
                model,
                prompt,
                "--items",
                table,
                "--metric",
                "checker",
                "--checker",
                CHECKER,
            ),
            *("--n-samples", str(n_samples), "--temperature", str(temperature), "--verifiers", *verifiers),
            *("--budgets", *map(str, budgets), "--device", "cpu"),
            *("--output", folder / "samples", "--overwrite", "--json"),
        )
    names = {"votes": "votes", str(STEPS): "steps", str(reward_model): "reward_model"}
    found: Figures = {"items": items, "n_samples": n_samples, "temperature": temperature}
    for key, points in run.figures["curves"].items():
        name = names.get(key, re.sub(r"\W+", "_", key))
        curve = {str(one["n"]): one["value"] for one in points}
        found[name] = {
            "curve": curve,
            "gain": points[-1]["value"] - points[0]["value"],
            "points": points,
            **(run.figures["errors"].get(key) or {}),
        }
    return found
