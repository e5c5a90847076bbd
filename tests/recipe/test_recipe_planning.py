"""A recipe's plan: the stages that train, their sizes and lengths, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.planning.machines import find_machine
from parakit.recipe.builder import load_recipe
from parakit.recipe.planning import bytes_per_token, plan_recipe

CARD = find_machine("l4")


def recipe(folder: Path, **settings: object):
    text = folder / "text"
    text.mkdir(exist_ok=True)
    (text / "a.txt").write_text("A sentence of a text. " * 5000)
    file = folder / "recipe.yaml"
    file.write_text(
        f"text: {{paths: [{text}]}}\n" + "".join(f"{key}: {value}\n" for key, value in settings.items())
    )
    return load_recipe(file)


def test_steps_are_those_of_the_settings(tmp_path: Path) -> None:
    (stage,) = plan_recipe(
        recipe(tmp_path, size="1m", tokenizer="{vocab_size: 512}", pretrain="{max_steps: 7}"), CARD
    )
    assert (stage.name, stage.plan.n_steps) == ("pretrain", 7)
    assert 0.7e6 < stage.plan.spec.n_parameters < 1.4e6


def test_a_time_is_shared_by_the_stages(tmp_path: Path) -> None:
    made = recipe(tmp_path, size="1m", time="10min", tokenizer="{vocab_size: 512}")
    (stage,) = plan_recipe(made, CARD)
    assert stage.plan.seconds == pytest.approx(0.92 * 600, rel=0.01)


def test_an_epoch_is_the_text(tmp_path: Path) -> None:
    (stage,) = plan_recipe(recipe(tmp_path, size="1m", tokenizer="{vocab_size: 512}"), CARD)
    assert stage.plan.n_tokens == pytest.approx(22 * 5000 / bytes_per_token(512), rel=0.1)
    assert "estimated" in stage.notes[0]


def test_the_shards_of_an_earlier_build_are_counted(primer_build) -> None:
    from parakit.tokens.shards import TokenShards

    builds, _ = primer_build
    made = load_recipe("recipes/own-text.yaml")
    folder = next(path.parent for path in builds.rglob("shards"))
    stage = plan_recipe(made.replace(size="1m", time=None), CARD, folder)[0]
    n = TokenShards.open(folder / "shards", "train").n_tokens
    assert stage.plan.n_tokens == pytest.approx(made.pretrain.epochs * n, abs=stage.plan.spec.n_tokens)
    assert "counted" in stage.notes[0]


@pytest.mark.parametrize(
    "name", ["primer", "own-assistant", "encoder-classifier", "translator", "transformer-2017"]
)
def test_every_recipe_has_a_plan(name: str) -> None:
    stages = plan_recipe(load_recipe(f"recipes/{name}.yaml"), CARD)
    assert stages
    for stage in stages:
        assert stage.plan is not None or stage.notes
        assert stage.to_json()["stage"] == stage.name


def test_more_vocabulary_means_more_bytes_a_token() -> None:
    assert bytes_per_token(512) < bytes_per_token(4096) < bytes_per_token(65_536) < 5
