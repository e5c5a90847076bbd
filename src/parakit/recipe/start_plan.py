"""How a recipe's stages hang together where it begins with a trained model: which stage has the tokenizer, from which
model a stage trains, what is replayed and measured; and which stages share the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from parakit.recipe.build_time import BuildTime
from parakit.recipe.config import RecipeConfig, parse_time
from parakit.recipe.graph import Stage, fingerprint
from parakit.recipe.start_config import START, VOCABULARY
from parakit.stages.config import FinetuneConfig, LoraFinetuneConfig, PretrainConfig
from parakit.stages.data_config import CorpusConfig, EvaluateConfig

REPLAY_CORPUS, REPLAY_SHARDS = "replay_corpus", "replay_shards"


def tokenizer_stage(recipe: RecipeConfig) -> str:
    """The stage whose folder has the tokenizer."""
    return _start_stage(recipe) or "tokenizer"


def _start_stage(recipe: RecipeConfig) -> str | None:
    """The stage with the model that training begins with."""
    if recipe.start is None:
        return None
    return START if recipe.start.extend_vocab is None else VOCABULARY


def vocabulary_stages(recipe: RecipeConfig, folder: Path) -> list[Stage]:
    """The imported model with more tokens, where the recipe asks for them."""
    new = recipe.start.new_tokens() if recipe.start else None
    if new is None:
        return []

    def run(out: Path) -> None:
        from parakit.stages.data import extend_vocabulary

        extend_vocabulary(folder / START, folder / "corpus", new, out, overwrite=True)

    added = new if isinstance(new, int) else list(new)
    return [Stage(VOCABULARY, {"extend_vocab": added}, (START, "corpus"), run)]


def base_stage(recipe: RecipeConfig, stage: Literal["finetune", "align"]) -> str | None:
    """The stage whose model `stage` begins with; None: a new model."""
    if stage == "align" and recipe.finetune:
        return "finetune"
    if recipe.pretrain != "none":
        return "pretrain"
    return _start_stage(recipe)


def time_of(recipe: RecipeConfig) -> BuildTime | None:
    """The time of a build that begins now; None where nothing limits it."""
    if recipe.time is None:
        return None
    trained = ["pretrain"] * (recipe.pretrain != "none") + ["finetune"] * (recipe.finetune is not None)
    trained += [step.method for step in recipe.align] + ["distill"] * (recipe.distill is not None)
    seconds = parse_time(recipe.time)
    return BuildTime(
        seconds,
        trained,
        recipe.start is not None,
        has_index=recipe.index is not None,
        has_evaluations=recipe.evaluate != EvaluateConfig(),
    )


def from_start(recipe: RecipeConfig, training: PretrainConfig, folder: Path) -> PretrainConfig:
    """Pre-training that continues the imported model, with the recipe's replayed text."""
    changes: dict[str, Any] = {"model": str(folder / tokenizer_stage(recipe))}
    if recipe.replay is not None:
        changes |= {"replay": str(folder / REPLAY_SHARDS), "replay_share": recipe.replay.share}
    return training.replace(**changes)


def with_merge(recipe: RecipeConfig, training: FinetuneConfig) -> FinetuneConfig:
    """An adapter is merged where later stages begin with its model."""
    if recipe.merges and isinstance(training, LoraFinetuneConfig) and training.merge is None:
        return training.replace(merge=True)
    return training


def replay_stages(recipe: RecipeConfig, folder: Path) -> list[Stage]:
    """The corpus and the token shards of the replayed text."""
    if recipe.replay is None:
        return []
    config = CorpusConfig.parse(recipe.replay.model_dump(exclude={"share"}, exclude_unset=True), "replay")
    inputs = fingerprint([*config.paths, *config.validation_paths], config)
    family, source = recipe.family, tokenizer_stage(recipe)

    def read(out: Path) -> None:
        from parakit.stages.data import make_corpus

        make_corpus(config, out, overwrite=True)

    def encode(out: Path) -> None:
        from parakit.stages.data import make_shards

        make_shards(folder / REPLAY_CORPUS, folder / source, out, overwrite=True, family=family)

    settings = {"text": config.model_dump(mode="json"), "inputs": inputs}
    return [
        Stage(REPLAY_CORPUS, settings, (), read),
        Stage(REPLAY_SHARDS, {"family": family}, (REPLAY_CORPUS, source), encode),
    ]


def held_out_sets(recipe: RecipeConfig) -> dict[str, str]:
    """What every model is compared with the start on: the name of the figure, and the stage whose validation split it is
    measured on. Models that predict tokens of a text only.
    """
    if recipe.start is None or recipe.family != "decoder":
        return {}
    sets = {"held-out text": "shards"} if recipe.reads_text else {}
    sets |= {"held-out conversations": "conversation_shards"} if recipe.conversations else {}
    return sets | ({"replayed text": REPLAY_SHARDS} if recipe.replay else {})


def held_out_sources(recipe: RecipeConfig) -> dict[str, str]:
    """Of these sets, the stages with their text, where the start encodes it with another tokenizer; empty: it does not."""
    if recipe.start is None or recipe.start.extend_vocab is None:
        return {}
    sources = {"shards": "corpus", "conversation_shards": "conversations", REPLAY_SHARDS: REPLAY_CORPUS}
    return {name: sources[stage] for name, stage in held_out_sets(recipe).items()}
