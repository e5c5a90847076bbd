"""The stages of a recipe: which there are, what each reads, and how it is run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.files import write_json_atomic
from parakit.common.progress import progress
from parakit.recipe.config import RecipeConfig, parse_time
from parakit.recipe.graph import Stage, fingerprint
from parakit.training.config import TrainingConfig

WORK = "work"
# Of a build's whole time, what is left for the stages after pre-training: tuning, evaluation, the report.
SHARE_BEFORE_TUNING, SHARE_WITHOUT_TUNING = 0.55, 0.82


def stages_of(recipe: RecipeConfig, folder: Path) -> list[Stage]:
    """Every stage of `recipe`, in order, for a build in `folder`."""
    found = [_corpus(recipe), _tokenizer(recipe, folder), _shards(folder)]
    if recipe.conversations is None:
        return [*found, _pretrain(recipe, folder), _evaluate(recipe, folder)]
    found += [
        _conversations(recipe),
        _conversation_shards(folder),
    ]  # their faults show before hours are spent
    return [*found, _pretrain(recipe, folder), _finetune(recipe, folder), _evaluate(recipe, folder)]


def _corpus(recipe: RecipeConfig) -> Stage:
    from parakit.recipe.text_stages import make_corpus

    text = recipe.text
    inputs = fingerprint([*text.paths, *text.validation_paths], text)
    settings = {"text": text.model_dump(mode="json"), "inputs": inputs}
    return Stage("corpus", settings, (), lambda out: _discard(make_corpus(text, out, overwrite=True)))


def _tokenizer(recipe: RecipeConfig, folder: Path) -> Stage:
    from parakit.recipe.text_stages import make_tokenizer

    config = recipe.tokenizer
    return Stage(
        "tokenizer",
        config.model_dump(mode="json"),
        ("corpus",),
        lambda out: _discard(make_tokenizer(folder / "corpus", config, out, overwrite=True)),
    )


def _shards(folder: Path) -> Stage:
    from parakit.recipe.text_stages import make_shards

    return Stage(
        "shards",
        {},
        ("corpus", "tokenizer"),
        lambda out: _discard(make_shards(folder / "corpus", folder / "tokenizer", out, overwrite=True)),
    )


def _pretrain(recipe: RecipeConfig, folder: Path) -> Stage:
    training = _seeded(recipe.pretrain, recipe.seed)
    share = SHARE_WITHOUT_TUNING if recipe.conversations is None else SHARE_BEFORE_TUNING
    seconds = parse_time(recipe.time) * share if recipe.time else None
    settings: dict[str, Any] = {
        "training": training.model_dump(mode="json"),
        "size": recipe.size,
        "seconds": seconds,
        "max_seq_len": recipe.max_seq_len,
    }
    started = time.monotonic()

    def run(out: Path) -> None:
        from parakit.recipe.model_stages import Pretraining, pretrain

        job = Pretraining(
            shards=folder / "shards",
            tokenizer=folder / "tokenizer",
            work=folder / WORK / "pretrain",
            training=training,
            size=recipe.size,
            seconds=seconds,
            seconds_spent=time.monotonic() - started,
            max_seq_len=recipe.max_seq_len,
        )
        pretrain(job, out, overwrite=True)

    return Stage("pretrain", settings, ("shards", "tokenizer"), run)


def _conversations(recipe: RecipeConfig) -> Stage:
    from parakit.recipe.text_stages import make_conversations

    config = recipe.conversations
    assert config is not None
    settings = {"conversations": config.model_dump(mode="json"), "inputs": fingerprint(config.paths)}
    return Stage(
        "conversations", settings, (), lambda out: _discard(make_conversations(config, out, overwrite=True))
    )


def _conversation_shards(folder: Path) -> Stage:
    from parakit.recipe.text_stages import make_conversation_shards

    def run(out: Path) -> None:
        make_conversation_shards(folder / "conversations", folder / "tokenizer", out, overwrite=True)

    return Stage("conversation_shards", {}, ("conversations", "tokenizer"), run)


def _finetune(recipe: RecipeConfig, folder: Path) -> Stage:
    training = _seeded(recipe.finetune or TrainingConfig(), recipe.seed)
    settings = {"training": training.model_dump(mode="json")}

    def run(out: Path) -> None:
        from parakit.recipe.model_stages import Finetuning, finetune

        shards, work = folder / "conversation_shards", folder / WORK / "finetune"
        finetune(Finetuning(folder / "pretrain", shards, work, training), out, overwrite=True)

    return Stage("finetune", settings, ("pretrain", "conversation_shards"), run)


def _evaluate(recipe: RecipeConfig, folder: Path) -> Stage:
    config = recipe.evaluate
    models = {"base": "pretrain"} | ({"tuned": "finetune"} if recipe.conversations is not None else {})
    settings = {
        "evaluate": config.model_dump(mode="json"),
        "inputs": fingerprint(config.texts),
        "models": models,
        "samples": [list(recipe.prompts), list(recipe.questions)],
    }

    def run(out: Path) -> None:
        from parakit.evaluation.samples import openings
        from parakit.recipe.evaluation_stage import measure
        from parakit.text.corpus import iter_corpus

        lineage = Lineage(
            "evaluation", config.model_dump(mode="json"), [folder / stage for stage in models.values()]
        )
        with (
            progress("evaluate", unit="answers and tokens") as bar,
            writing_artifact(out, lineage, overwrite=True) as inside,
        ):
            folders = {name: folder / stage for name, stage in models.items()}
            prompts = recipe.prompts or openings(iter_corpus(folder / "corpus", "validation"))
            lineage.result = measure(config, folders, bar.advance, prompts, recipe.questions)
            write_json_atomic(inside / "results.json", lineage.result)

    return Stage("evaluate", settings, tuple(models.values()), run)


def _seeded(training: TrainingConfig, seed: int) -> TrainingConfig:
    """The recipe's seed, unless the stage has its own."""
    return training if "seed" in training.model_fields_set else training.replace(seed=seed)


def _discard(_: object) -> None:
    """A stage's result is its folder."""
