"""The recipe's `model`: its choices reach the model that is trained, in one build and over values."""

from __future__ import annotations

import json

import pytest

from parakit.checkpoints.loading import read_config
from parakit.common import UserError
from parakit.recipe import build
from parakit.recipe.config import RecipeConfig
from parakit.recipe.stage_list import stages_of
from parakit.recipe.sweeps.plan import plan_sweep
from parakit.recipe.sweeps.results import report
from parakit.recipe.sweeps.running import run_sweep
from tests.recipe.test_recipe_sweeps import here


def test_a_recipe_without_choices_has_the_same_stages_as_before(text_recipe, tmp_path):
    plain, chosen = (
        {stage.name: stage.settings for stage in stages_of(recipe, tmp_path)}
        for recipe in (text_recipe(), text_recipe(model__positions="none"))
    )
    assert "model" not in plain["pretrain"]
    assert chosen["pretrain"] == plain["pretrain"] | {"model": {"positions": "none"}}


def test_the_values_of_a_choice_are_compared(text_recipe, tmp_path):
    def make(overrides):
        return text_recipe(**{key.replace(".", "__"): value for key, value in overrides.items()})

    sweep = plan_sweep(make, tmp_path, 2, {"model.positions": ("rotary", "learned", "none")})
    assert [one.status for one in run_sweep(sweep, start=here)] == ["done"] * 6
    configs = {run.name: read_config(sweep.build_folder(run.name) / "pretrain") for run in sweep.runs}
    assert {name.split("-")[1]: config.positions for name, config in configs.items()} == {
        name: name for name in ("rotary", "learned", "none")
    }
    results, page = report(sweep)
    bits = next(figure for figure in results.headlines if figure.unit == "bits per byte")
    assert all(results.mean(setting, bits).n == 2 for setting in range(3))
    assert "positions" in page.read_text()


def test_a_model_of_a_new_shape_is_built_tuned_and_measured(text_recipe, conversations, tmp_path):
    recipe = text_recipe(
        model__positions="learned",
        model__norm="layer",
        conversations__paths=[str(conversations)],
        finetune__max_steps=2,
        finetune__batch_tokens=128,
    )
    summary = build(recipe, tmp_path)
    assert read_config(tmp_path / "mine/finetune").positions == "learned"
    assert json.loads((tmp_path / "mine/recipe.json").read_text())["model"] == {
        "positions": "learned",
        "norm": "layer",
    }
    assert summary.training("finetune").loss is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model__positons": "none"}, "unknown key `model.positons`\n  did you mean `positions`?"),
        ({"model__positions": "roatry"}, "'rotary', 'learned'"),
        ({"model": 3}, "`model`"),
    ],
    ids=str,
)
def test_a_choice_that_is_none_is_refused_by_its_path(text_recipe, overrides, message):
    with pytest.raises(UserError) as refusal:
        text_recipe(**overrides)
    assert message in str(refusal.value)


def test_choices_are_of_a_new_model(text):
    values = {"text": {"paths": [str(text)]}, "pretrain": {"model": "folder"}, "model": {"positions": "none"}}
    with pytest.raises(UserError, match="`model` is set but has no effect"):
        RecipeConfig.parse(values)
