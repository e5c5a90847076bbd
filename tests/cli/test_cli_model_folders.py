"""Which model a path means."""

from __future__ import annotations

import json
from pathlib import Path

from parakit.cli.rendering.model_loading import model_folder


def test_a_build_stands_for_the_last_model_of_its_life(tmp_path: Path) -> None:
    """Not for a reward model, nor for what a former recipe left there."""
    life = {
        "align": [{"method": "reward"}, {"method": "dpo"}, {"method": "grpo"}],
        "distill": {"keep_layers": 1},
    }
    (tmp_path / "build.json").write_text("{}")
    (tmp_path / "recipe.json").write_text(json.dumps(life))
    made = []
    for stage in ("pretrain", "finetune", "reward", "dpo", "grpo", "distill"):
        (tmp_path / stage).mkdir()
        made.append(model_folder(tmp_path).name)
    assert made == ["pretrain", "finetune", "finetune", "dpo", "grpo", "distill"]
    (tmp_path / "recipe.json").write_text(json.dumps(life | {"align": None, "distill": None}))
    assert model_folder(tmp_path) == tmp_path / "finetune"
    assert model_folder(tmp_path / "dpo") == tmp_path / "dpo"
