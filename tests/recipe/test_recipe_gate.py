"""The gate of a build: where it is in the plan, what stops it, and how a stopped build resumes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from parakit.cli.main import main
from parakit.common.errors import UserError
from parakit.evaluation.comparison.config import GateConfig
from parakit.evaluation.comparison.folders import scores_of
from parakit.evaluation.comparison.outcome import ModelScores
from parakit.evaluation.comparison.pipeline import QualityFall, check_gate
from parakit.evaluation.suites import SuiteAnswer, summarize_answers
from parakit.recipe import RecipeConfig, built_in_recipe, load_recipe
from parakit.recipe.stage_list import stages_of
from tests.recipe.test_recipe_post_training import life
from tests.tiny_builds import TINY_PRIMER


def suites_of(n_right: int, prompting: str = "chat", n: int = 1000) -> dict[str, Any]:
    """One suite with so many right answers, in its form in an evaluation."""
    samples = tuple(SuiteAnswer(f"question {i}", "a", "b", i < n_right, "stop") for i in range(n))
    return {"facts": dataclasses.asdict(summarize_answers(samples, prompting))}


def scores(name: str, n_right: int, prompting: str = "chat", n: int = 1000) -> ModelScores:
    return scores_of(name, {"suites": suites_of(n_right, prompting, n)}, {})


def test_each_gate_is_behind_its_model_and_before_the_stage_that_uses_it(tmp_path: Path) -> None:
    stages = {stage.name: stage for stage in stages_of(life(evaluate__gate={}), tmp_path)}
    names = list(stages)
    assert names[names.index("pretrain") + 1] == "gate_pretrain"
    assert names[-9:] == [
        *("preferences", "reward", "dpo", "gate_dpo", "grpo", "gate_grpo", "distill", "gate_distill"),
        "evaluate",
    ]
    assert stages["gate_pretrain"].parents == ("pretrain",)
    assert stages["gate_dpo"].parents == ("dpo", "gate_finetune")
    plain = {stage.name: stage.settings for stage in stages_of(life(), tmp_path)}
    assert not any(name.startswith("gate") for name in plain)
    assert plain == {name: stages[name].settings for name in plain}  # the gate makes nothing else again


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate.suites": None, "evaluate.max_new_tokens": 100}, "there are no suites"),
        ({"finetune": None, "conversations": None, "questions": ()}, "no stage makes a model from another"),
    ],
)
def test_a_gate_with_nothing_to_compare_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"`evaluate.gate` is set but has no effect: {message}"):
        load_recipe(built_in_recipe(), TINY_PRIMER | {"evaluate.gate": {}} | changes)


def test_a_fall_that_is_told_and_greater_than_the_limit_stops() -> None:
    parent = scores("pretrain", 700, "plain")
    with pytest.raises(QualityFall) as stopped:
        check_gate(parent, scores("finetune", 650), GateConfig())
    assert stopped.value.message.startswith(
        "gate: the model of finetune is worse than that of pretrain: facts -5 points (95 % -6."
    )
    assert "1,000 items" in stopped.value.message
    assert check_gate(parent, scores("finetune", 650), GateConfig(max_fall=0.06)).verdict == "worse"
    few = (scores("a", 35, n=50), scores("b", 31, n=50))  # 8 points that 50 items do not tell
    assert check_gate(*few, GateConfig()).verdict == "cannot tell"
    assert check_gate(parent, scores("finetune", 780), GateConfig()).verdict == "better"
    small = (scores("a", 1400, n=2000), scores("b", 1389, n=2000))  # told, and about half a point
    assert check_gate(*small, GateConfig()).verdict == "worse"


def test_a_stopped_build_keeps_what_it_made_and_resumes(tmp_path: Path, monkeypatch, capsys) -> None:
    from parakit.stages.comparison import gate

    evaluated = []

    def planted(path: Path, config: Any, **_: Any) -> dict[str, Any]:
        evaluated.append(path.name)
        found = suites_of(700, "plain") if path.name == "pretrain" else suites_of(640)
        return {"model": {"path": str(path)}, "loss": {}, "examples": None, "suites": found}

    monkeypatch.setattr(gate, "evaluate_model", planted)
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(load_recipe(built_in_recipe(), TINY_PRIMER).model_dump_json(exclude_none=True))
    words = ["build", str(recipe), "--gate", "--json"]
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert "error: gate: the model of finetune is worse than that of pretrain: facts -6 points" in printed
    folder = next((tmp_path / "builds").iterdir())
    assert (folder / "finetune").is_dir()
    assert not (folder / "gate_finetune").exists()
    assert main(words) == 1  # nothing is made or evaluated twice
    assert evaluated == ["pretrain", "finetune"]
    assert "[finetune] skipped: up to date" in capsys.readouterr().err
    assert main([*words, "--set", "evaluate.gate.max_fall=0.2"]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert evaluated == ["pretrain", "finetune"]
    against = summary["against_parent"]["tuned"]
    assert (against["verdict"], against["all"]["difference"]) == ("worse", pytest.approx(-0.06))
    assert summary["suites"]["facts"]["tuned"]["accuracy"] == 0.64
    assert summary["stages"]["gate_finetune"]["seconds"] >= 0
    assert not (folder / "work").exists()
    assert isinstance(RecipeConfig.parse(summary["recipe"]).evaluate.gate, GateConfig)
