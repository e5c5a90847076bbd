"""Which stages a recipe has, and what decides each."""

from __future__ import annotations

import pytest

from parakit.recipe.stage_list import stages_of


def settings(recipe, tmp_path) -> dict[str, dict]:
    return {stage.name: stage.settings for stage in stages_of(recipe, tmp_path)}


def test_tuning_stages_come_with_conversations(primer_recipe, text_recipe, tmp_path):
    assert list(settings(text_recipe(), tmp_path)) == [
        "corpus",
        "tokenizer",
        "shards",
        "pretrain",
        "evaluate",
    ]
    names = list(settings(primer_recipe(), tmp_path))
    assert names[3:] == ["conversations", "conversation_shards", "pretrain", "finetune", "evaluate"]


def test_every_parent_comes_before_its_child(primer_recipe, tmp_path):
    seen: set[str] = set()
    for stage in stages_of(primer_recipe(), tmp_path):
        assert set(stage.parents) <= seen
        seen.add(stage.name)


@pytest.mark.parametrize("section", ["pretrain", "finetune"])
def test_a_stage_has_the_recipes_seed_unless_it_names_its_own(primer_recipe, tmp_path, section):
    assert settings(primer_recipe(seed=5), tmp_path)[section]["training"]["seed"] == 5
    own = primer_recipe(seed=5, **{f"{section}__seed": 0})
    assert settings(own, tmp_path)[section]["training"]["seed"] == 0


def test_the_time_is_shared_out(text_recipe, primer_recipe, tmp_path):
    alone = settings(text_recipe(time="100s", pretrain__max_steps=None), tmp_path)["pretrain"]
    assert alone["seconds"] == pytest.approx(92)
    tuned = settings(primer_recipe(time="100s", size=None), tmp_path)
    assert [tuned[stage]["seconds"] for stage in ("pretrain", "finetune")] == pytest.approx(
        [92 * 2 / 3, 92 / 3]
    )
    assert settings(text_recipe(), tmp_path)["pretrain"]["seconds"] is None
