"""What a recipe says of a model that is new: there is nothing before it that it could be compared with."""

from __future__ import annotations

from typing import Any

import pytest

from parakit.common.errors import UserError
from parakit.recipe.config import RecipeConfig


def from_scratch(**finetune: Any) -> RecipeConfig:
    return RecipeConfig.parse(
        {
            "pretrain": "none",
            "family": "encoder",
            "size": "40k",
            "examples": {"paths": ["reviews.jsonl"]},
            "finetune": {"task": "classify", **finetune},
        }
    )


@pytest.mark.parametrize(
    "setting", [{"before_after": "losses"}, {"n_compared_prompts": 3}, {"max_compared_tokens": 9}]
)
def test_a_comparison_of_a_new_model_with_itself_before_is_refused(setting):
    (key,) = setting
    with pytest.raises(UserError, match=f"finetune.{key}` is set but has no effect: a new model"):
        from_scratch(**setting)


def test_no_comparison_may_be_asked_for_and_a_written_recipe_is_read_again():
    assert from_scratch(before_after="none").finetune.before_after == "none"
    written = from_scratch().model_dump(mode="json")
    assert RecipeConfig.parse(written) == from_scratch()


def test_a_time_with_a_given_length_still_bounds_the_stages_whose_length_is_open():
    mapping = {
        "text": {"paths": ["a.txt"]},
        "size": "1m",
        "time": "2min",
        "pretrain": {"max_steps": 5},
        "conversations": {"paths": ["b.jsonl"]},
    }
    assert RecipeConfig.parse(mapping).time == "2min"
    with pytest.raises(UserError, match="`time` is set but has no effect"):
        RecipeConfig.parse(mapping | {"finetune": {"epochs": 1}})
