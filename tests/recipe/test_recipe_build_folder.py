"""Which model the folder of a build stands for."""

from __future__ import annotations

import json
from pathlib import Path

from parakit.recipe.build_folder import resolve_model_folder


def test_a_build_stands_for_the_last_model_of_its_pipeline(tmp_path: Path) -> None:
    """Not for a reward model, nor for what a former recipe left there."""
    recipe = {
        "align": [{"method": "reward"}, {"method": "dpo"}, {"method": "grpo"}],
        "distill": {"keep_layers": 1},
        "quantize": {"bits": 8},
    }
    (tmp_path / "build.json").write_text("{}")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    made = []
    for stage in ("pretrain", "finetune", "reward", "dpo", "grpo", "distill", "quantize"):
        (tmp_path / stage).mkdir()
        made.append(resolve_model_folder(tmp_path).name)
    assert made == ["pretrain", "finetune", "finetune", "dpo", "grpo", "distill", "quantize"]
    (tmp_path / "recipe.json").write_text(
        json.dumps(recipe | {"align": None, "distill": None, "quantize": None})
    )
    assert resolve_model_folder(tmp_path) == tmp_path / "finetune"
    assert resolve_model_folder(tmp_path / "dpo") == tmp_path / "dpo"
