"""A recipe that begins with a published model: every stage from its import to the report."""

from __future__ import annotations

import json

from parakit.common import open_artifact
from parakit.recipe import build
from parakit.recipe.builder import recipe_for_model

TINY = {
    "name": "assistant",
    "pretrain.max_steps": 2,
    "pretrain.batch_tokens": 192,
    "finetune.max_steps": 2,
    "finetune.batch_tokens": 192,
    "finetune.optimizer": "adamw",
    "pretrain.optimizer": "adamw",
    "questions": ["the bird?"],
    "prompts": ["the old"],
}


def test_text_and_conversations(published_decoder, text, conversations, tmp_path, capsys):
    recipe = recipe_for_model(
        str(published_decoder), [str(text)], TINY | {"conversations.paths": [str(conversations)]}
    )
    summary = build(recipe, tmp_path / "builds").to_dict()
    print(json.dumps({k: v for k, v in summary.items() if k not in ("recipe", "stages")}, indent=1)[:6000])
    print(capsys.readouterr())
    assert list(summary["stages"]) == [
        "start",
        "corpus",
        "shards",
        "conversations",
        "conversation_shards",
        "pretrain",
        "finetune",
        "evaluate",
    ]
    assert 0, tmp_path / "builds"
