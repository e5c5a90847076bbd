"""The stages of a recipe with an `index`: the index, the conversations out of it, and the answers of the finished model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.assistants.retrieval.encoders import locate_encoder
from parakit.common.files import JsonObject
from parakit.recipe.config import RecipeConfig
from parakit.recipe.graph import Stage, fingerprint
from parakit.recipe.start_config import START
from parakit.stages.documents.config import AssistantIndexConfig
from parakit.stages.run_dir import folder_fingerprint

INDEX, ANSWERS = "index", "answers"


def index_stage(recipe: RecipeConfig) -> Stage:
    """The index of the recipe's documents, with its threshold."""
    config = recipe.index
    assert config is not None
    settings: JsonObject = {"index": config.model_dump(mode="json")}
    settings |= {"inputs": fingerprint(config.paths, config.text_config())}
    settings |= {"questions": _questions_read(config)}
    encoder = locate_encoder(config.encoder)
    settings["encoder_read"] = folder_fingerprint(encoder) if encoder and encoder.is_dir() else None

    def run(out: Path) -> None:
        from parakit.stages.documents.assistant import make_assistant_index

        make_assistant_index(config, out)

    return Stage(INDEX, settings, (), run)


def index_conversations_stage(recipe: RecipeConfig, folder: Path) -> Stage:
    """Conversations with passages, citations and refusals, out of the index."""
    config = recipe.conversations.from_index if recipe.conversations else None
    assert config is not None

    def run(out: Path) -> None:
        from parakit.stages.documents.assistant import make_index_conversations

        make_index_conversations(config, folder / INDEX, out)

    return Stage("conversations", {"from_index": config.model_dump(mode="json")}, (INDEX,), run)


def answers_stage(recipe: RecipeConfig, folder: Path, work: Path, models: Mapping[str, str]) -> Stage:
    """What the finished model, and the published one that the recipe began with, answer from the index."""
    config = recipe.index
    assert config is not None
    last = list(models)[-1]
    measured = {name: stage for name, stage in models.items() if name in (START, last)}
    limit = recipe.evaluate.max_new_tokens

    def run(out: Path) -> None:
        from parakit.stages.documents.assistant import measure_assistant

        folders = {name: folder / stage for name, stage in measured.items()}
        measure_assistant(config, folder / INDEX, folders, out, work / ANSWERS, max_new_tokens=limit)

    settings: JsonObject = {"models": measured, "max_new_tokens": limit, "n_questions": config.n_questions}
    settings |= {"questions": _questions_read(config)}
    return Stage(ANSWERS, settings, (INDEX, *measured.values()), run)


def _questions_read(config: AssistantIndexConfig) -> list[list[Any]]:
    return fingerprint([config.questions] if config.questions else [])
