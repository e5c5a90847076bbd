"""The list of a recipe's stages: inputs, settings and the function that runs each.

Text, tokenizer, token shards, pre-training; then fine-tuning on conversations or on the examples of a task. Alignment
and distillation are in `post_training.py`. A recipe with `pretrain: none` goes from the examples straight to the task.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.choices import part_of
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.locks import PARTIAL
from parakit.common.progress import progress
from parakit.recipe.build_time import BuildTime
from parakit.recipe.config import RecipeConfig
from parakit.recipe.documents.stages import answers_stage, index_conversations_stage, index_stage
from parakit.recipe.gates import gates_of, task_files, with_gates
from parakit.recipe.graph import Stage, fingerprint, outside_folders
from parakit.recipe.post_training import post_training_models, post_training_stages, seeded
from parakit.recipe.start import start_stage
from parakit.recipe.start_config import START
from parakit.recipe.start_plan import (
    REPLAY_SHARDS,
    base_stage,
    from_start,
    held_out_sets,
    held_out_sources,
    replay_stages,
    time_of,
    tokenizer_stage,
    vocabulary_stages,
    with_merge,
)
from parakit.stages.config import PretrainConfig, SpanCorruption

if TYPE_CHECKING:
    from parakit.data.conversations.from_documents import DocumentQuestionsConfig
    from parakit.stages.plans import ModelSpec

WORK = "work"


def stages_of(recipe: RecipeConfig, folder: Path, times: BuildTime | None = None) -> list[Stage]:
    """Every stage of `recipe`, in order, for a build in `folder`. `times`: of the build, if the recipe has a time."""
    times = times or time_of(recipe)
    pretrained = recipe.pretrain != "none"
    stages = [start_stage(recipe)] if recipe.start else []
    stages += [index_stage(recipe)] if recipe.index else []
    stages += [_corpus(recipe)] if recipe.reads_text else []
    stages += vocabulary_stages(recipe, folder)
    if not recipe.start:
        stages += [] if recipe.reads_text else [_examples(recipe)]
        stages += [_tokenizer(recipe, folder)]
    stages += [_shards(recipe, folder)] if pretrained or (recipe.start and recipe.reads_text) else []
    stages += replay_stages(recipe, folder)
    # their faults show before hours are spent
    if recipe.conversations is not None:
        stages += [_conversations(recipe, folder), _conversation_shards(recipe, folder)]
    elif recipe.examples is not None:
        stages += [_examples(recipe)] if recipe.reads_text or recipe.start else []
        stages += [_example_shards(recipe, folder)]
    stages += [_pretrain(recipe, folder, times)] if pretrained else []
    stages += [_finetune(recipe, folder, times)] if recipe.finetune else []
    stages += post_training_stages(recipe, folder, folder / WORK, times)
    models = models_of(recipe)
    stages = with_gates(recipe, folder, stages, models)
    stages += [answers_stage(recipe, folder, folder / WORK, models)] if recipe.index else []
    return [*stages, _evaluate(recipe, folder, times is not None)]


def models_of(recipe: RecipeConfig) -> dict[str, str]:
    """The models that a build measures, in pipeline order: what each is called, and the stage that makes it. Each is
    made from the one before.
    """
    models = {START: START} if recipe.start else {}
    models |= {"base": "pretrain"} if recipe.pretrain != "none" else {}
    models |= {"tuned": "finetune"} if recipe.finetune else {}
    return models | post_training_models(recipe)


def _corpus(recipe: RecipeConfig) -> Stage:
    from parakit.stages.data import make_corpus

    text = recipe.text
    inputs = fingerprint([*text.paths, *text.validation_paths], text)
    settings = {"text": text.model_dump(mode="json"), "inputs": inputs}
    return Stage("corpus", settings, (), lambda out: _discard(make_corpus(text, out, overwrite=True)))


def _tokenizer(recipe: RecipeConfig, folder: Path) -> Stage:
    from parakit.stages.data import copy_tokenizer, make_tokenizer, n_sentinels_for

    pretrain = recipe.pretrain
    if isinstance(pretrain, PretrainConfig) and (model := pretrain.model):
        return Stage(
            "tokenizer",
            outside_folders(pretrain),
            ("corpus",),
            lambda out: _discard(copy_tokenizer(Path(model), folder / "corpus", out, overwrite=True)),
        )
    config, source = recipe.tokenizer, "corpus" if recipe.reads_text else "examples"
    spans = part_of(pretrain, SpanCorruption) if isinstance(pretrain, PretrainConfig) else None
    if spans and "n_sentinels" not in config.model_fields_set:
        config = config.replace(n_sentinels=n_sentinels_for(recipe.max_seq_len, spans))
    return Stage(
        "tokenizer",
        config.model_dump(mode="json"),
        (source,),
        lambda out: _discard(make_tokenizer(folder / source, config, out, overwrite=True)),
    )


def _shards(recipe: RecipeConfig, folder: Path) -> Stage:
    from parakit.stages.data import make_shards

    source = tokenizer_stage(recipe)
    corpus, tokenizer, family = folder / "corpus", folder / source, recipe.family
    return Stage(
        "shards",
        {} if family == "decoder" else {"family": family},
        ("corpus", source),
        lambda out: _discard(make_shards(corpus, tokenizer, out, overwrite=True, family=family)),
    )


def _pretrain(recipe: RecipeConfig, folder: Path, times: BuildTime | None) -> Stage:
    assert isinstance(recipe.pretrain, PretrainConfig)
    training = seeded(recipe.pretrain, recipe.seed)
    seconds = times.share("pretrain") if times else None
    settings: JsonObject = {
        "training": training.fingerprint(),
        "size": recipe.size,
        "seconds": seconds,
        "max_seq_len": recipe.max_seq_len,
        "family": recipe.family,
        "architecture": recipe.architecture,
    }
    settings |= _choices(recipe)
    settings |= outside_folders(recipe.pretrain)
    if recipe.start:  # whose content is a parent's
        share = recipe.replay.share if recipe.replay else None
        settings = {"training": settings["training"], "seconds": seconds, "replay_share": share}
        training = from_start(recipe, training, folder)

    def run(out: Path) -> None:
        from parakit.stages.job import run_job
        from parakit.stages.pretraining import PretrainJob

        job = PretrainJob(
            shards=folder / "shards",
            tokenizer=None if recipe.start else folder / "tokenizer",
            work=folder / WORK / "pretrain",
            training=training,
            model_spec=_model_spec(recipe),
            budget=times.budget("pretrain") if times else None,
        )
        run_job(job, out, overwrite=True)

    replayed = (REPLAY_SHARDS,) if recipe.replay else ()
    parents = ("shards", tokenizer_stage(recipe), *replayed)
    return Stage("pretrain", settings, parents, run, parallel=True)


def _document_questions(recipe: RecipeConfig, config: DocumentQuestionsConfig, folder: Path) -> Stage:
    from parakit.data.conversations.from_documents import WrittenByModel
    from parakit.stages.corpora.questions import make_document_questions

    writer = part_of(config, WrittenByModel)
    writes_itself = writer is not None and writer.model is None  # the model that the recipe starts from
    chosen = config.replace(model=str(folder / START)) if writes_itself else config

    def run(out: Path) -> None:
        make_document_questions(chosen, folder / "corpus", out, overwrite=True, seed=recipe.seed)

    settings = config.model_dump(mode="json") | {"seed": recipe.seed}
    settings |= {"template": writer.template_text()} if writer else {}
    parents = ("corpus", *((START,) if writes_itself else ()))
    return Stage("conversations", {"from_documents": settings}, parents, run)


def _conversations(recipe: RecipeConfig, folder: Path) -> Stage:
    from parakit.stages.data import make_conversations

    config = recipe.conversations
    assert config is not None
    if config.from_documents:
        return _document_questions(recipe, config.from_documents, folder)
    if config.from_index:
        return index_conversations_stage(recipe, folder)
    settings: JsonObject = {"conversations": config.model_dump(mode="json")}
    settings |= {"inputs": fingerprint(config.paths)}
    settings |= {"seed": recipe.seed} if config.shares else {}
    return Stage(
        "conversations",
        settings,
        (),
        lambda out: _discard(make_conversations(config, out, overwrite=True, seed=recipe.seed)),
    )


def _conversation_shards(recipe: RecipeConfig, folder: Path) -> Stage:
    from parakit.stages.data import make_conversation_shards

    source = tokenizer_stage(recipe)

    def run(out: Path) -> None:
        make_conversation_shards(folder / "conversations", folder / source, out, overwrite=True)

    return Stage("conversation_shards", {}, ("conversations", source), run)


def _examples(recipe: RecipeConfig) -> Stage:
    from parakit.stages.data import example_files, make_examples, report_skipped

    config, task = recipe.examples, recipe.task
    assert config is not None
    assert task is not None
    inputs = fingerprint(example_files(config, task))
    settings = {"examples": config.model_dump(mode="json"), "task": task, "inputs": inputs}
    return Stage(
        "examples",
        settings,
        (),
        lambda out: _discard(report_skipped("examples", make_examples(config, task, out, overwrite=True))),
    )


def _example_shards(recipe: RecipeConfig, folder: Path) -> Stage:
    from parakit.stages.data import make_example_shards

    source = tokenizer_stage(recipe)

    def run(out: Path) -> None:
        make_example_shards(folder / "examples", folder / source, out, recipe.family, overwrite=True)

    return Stage("example_shards", {"family": recipe.family}, ("examples", source), run)


def _finetune(recipe: RecipeConfig, folder: Path, times: BuildTime | None) -> Stage:
    assert recipe.finetune is not None
    training = seeded(recipe.finetune, recipe.seed)
    shards = "conversation_shards" if recipe.task == "chat" else "example_shards"
    base = base_stage(recipe, "finetune")
    settings: JsonObject = {"training": training.fingerprint()}
    settings |= outside_folders(training)
    settings |= {"seconds": times.share("finetune")} if times else {}
    if base is None:
        settings |= {"family": recipe.family, "architecture": recipe.architecture, "size": recipe.size}
        settings |= {"max_seq_len": recipe.max_seq_len} | _choices(recipe)

    def run(out: Path) -> None:
        from parakit.stages.defaults.time_budget import with_method
        from parakit.stages.finetuning import FinetuneJob, FromScratch
        from parakit.stages.job import run_job

        chosen, budget = training, times.budget("finetune") if times else None
        if base and budget and budget.fills:
            chosen = with_method(training, folder / base, folder / shards, budget.left)
        fresh = FromScratch(folder / "tokenizer", _model_spec(recipe))
        job = FinetuneJob(
            model=folder / base if base else fresh,
            shards=folder / shards,
            work=folder / WORK / "finetune",
            training=with_merge(recipe, chosen),
            budget=budget,
        )
        run_job(job, out, overwrite=True)

    return Stage("finetune", settings, (base or "tokenizer", shards), run, parallel=True)


def _evaluate(recipe: RecipeConfig, folder: Path, is_timed: bool) -> Stage:
    config, models = recipe.evaluate, models_of(recipe)
    settings: JsonObject = {
        "evaluate": config.model_dump(mode="json", exclude={"gate"}),
        "inputs": fingerprint([*config.texts, *task_files(config), *config.contamination]),
        "models": models,
        "samples": [list(recipe.prompts), list(recipe.questions)],
    }
    examples = ("examples",) if recipe.examples is not None else ()
    held_out, sources = held_out_sets(recipe), held_out_sources(recipe)
    gates = gates_of(recipe, models)

    def run(out: Path) -> None:
        from parakit.stages.data import encode_held_out
        from parakit.stages.evaluation import measure, opening_prompts
        from parakit.training.threads import fitted_threads

        folders = {name: folder / stage for name, stage in models.items()}
        lineage = Lineage(
            "evaluation",
            config.model_dump(mode="json"),
            [*folders.values(), *(folder / name for name in examples)],
        )
        with (
            fitted_threads() if is_timed else contextlib.nullcontext(),
            progress("evaluate", unit="answers and tokens") as bar,
            writing_artifact(out, lineage, overwrite=True) as inside,
            tempfile.TemporaryDirectory(prefix=".evaluate.", suffix=PARTIAL, dir=folder) as work,
        ):
            texts = {name: folder / stage for name, stage in sources.items()}
            lineage.result = measure(
                config,
                folders,
                bar.advance,
                prompts=recipe.prompts or (opening_prompts(folder / "corpus") if "base" in models else ()),
                questions=recipe.questions,
                examples=folder / "examples" if examples else None,
                held_out={name: folder / stage for name, stage in held_out.items()},
                held_out_of_start=encode_held_out(texts, folder / START, Path(work)),
                evaluated={name: folder / gate for name, gate in gates.items()},
                out=inside,
            )
            write_json_atomic(inside / "results.json", lineage.result)

    parents = (*models.values(), *examples, *held_out.values(), *sources.values())
    return Stage("evaluate", settings, parents, run)


def _model_spec(recipe: RecipeConfig) -> ModelSpec:
    from parakit.stages.plans import ModelSpec

    return ModelSpec(
        family=recipe.family,
        architecture=recipe.architecture,
        size=recipe.size,
        max_seq_len=recipe.max_seq_len,
        choices=recipe.model,
    )


def _choices(recipe: RecipeConfig) -> JsonObject:
    return {"model": recipe.model.model_dump(mode="json")} if recipe.model else {}


def _discard(_: object) -> None:
    """A stage's result is its folder."""
