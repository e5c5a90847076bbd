"""Self-consistency and best of n on arithmetic problems: accuracy against n and against tokens, with the choice's errors.

The replies of one sampling serve all methods: votes, a verifier that recomputes every written step without knowing the
answer, a reward model where one is given, and coverage, the bound of all. Next to them: votes on suites whose answers have no
steps, and greedy answers after thinking of a forced length, with `think` also of a model that is tuned to write its steps as
reasoning (`<think>`).
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import kept_or_measured, run_parakit, work_folder
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
OTHERS = ("sentiment", "agreement", "reference")
"""Suites whose answers have no steps."""
THINKING = PROMPT.replace("answer_after: The answer is\n", "")


@benchmark("best_of_n", {
    "votes.gain": ("> 0", "votes of all replies: gain over one reply"),
    "votes.curve.*": (NO_TARGET, "votes of {0} replies: right answers"),
    "steps.curve.*": (NO_TARGET, "best of {0} by recomputed steps: right answers"),
    "other_suites.*.curve.*": (NO_TARGET, "{0}: votes of {1} replies: right answers"),
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
    `n_conversations` with reasoning, and answers after reasoning of each budget. `work` keeps what was measured.
    """
    with work_folder(work) as folder:
        tables = {name: paths[0] for name, paths in write_tables(folder, items).items()}
        (folder / "steps.yaml").write_text(PROMPT)
        (folder / "thinking.yaml").write_text(THINKING)
        options = ("--n-samples", str(n_samples), "--temperature", str(temperature))
        forced = ("--budgets", *map(str, budgets))
        verifiers = ("votes", str(STEPS), *([str(reward_model)] if reward_model else []))
        words = (*options, "--verifiers", *verifiers, *forced)
        main = _sample(model, folder / "steps.yaml", tables["arithmetic"], words, folder / "samples")
        votes = {
            suite: _sample(model, folder / "thinking.yaml", tables[suite], options, folder / f"votes-{suite}")
            for suite in OTHERS
        }
        curves, errors = main["curves"], main["errors"]
        if think is not None:
            thinker = _tuned(think, n_conversations, folder)
            words = ("--n-samples", "2", *forced)
            thought = _sample(
                thinker, folder / "thinking.yaml", tables["arithmetic"], words, folder / "thought"
            )
            curves["thinking"] = thought["curves"]["budget"]
    draw_curves({_name(key, reward_model): points for key, points in curves.items()})
    found: Figures = {"items": items, "n_samples": n_samples, "temperature": temperature}
    for key, points in curves.items():
        curve = {str(one["n"]): one["value"] for one in points}
        found[_name(key, reward_model)] = {
            "curve": curve,
            "gain": points[-1]["value"] - points[0]["value"],
            "points": points,
            **(errors.get(key) or {}),
        }
    found["other_suites"] = {suite: _votes(one["curves"]["votes"]) for suite, one in votes.items()}
    return found


def _name(key: str, reward_model: Path | None) -> str:
    """A choice without the path of its file."""
    names = {STEPS.name: "steps", **({reward_model.name: "reward_model"} if reward_model else {})}
    return names.get(Path(key).name, key)


def _votes(points: list[Figures]) -> Figures:
    return {"curve": {str(one["n"]): one["value"] for one in points}, "points": points}


def _sample(model: Path, prompt: Path, table: Path, options: tuple[str, ...], out: Path) -> Figures:
    """The curves and the errors of the choices."""

    def measure() -> Figures:
        run = run_parakit(
            *("prompts", "sample", str(model), str(prompt), "--items", str(table)),
            *("--metric", "checker", "--checker", str(CHECKER), *options),
            *("--device", "cpu", "--output", str(out), "--overwrite", "--json"),
        )
        return {key: run.figures[key] for key in ("curves", "errors")}

    return kept_or_measured(out.with_suffix(".json"), measure)


def _tuned(base: Path, n_conversations: int, folder: Path) -> Path:
    """A model that writes its steps as reasoning."""
    model, rows = folder / "thinker" / "model", folder / "thinking.jsonl"
    if not model.exists():
        write_thinking(rows, n_conversations)
        run_parakit("finetune", base, "--conversations", rows, "--device", "cpu", "--output", model)
    return model
