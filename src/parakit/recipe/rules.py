"""Which settings of a recipe go together: checks without the file system, each with its reason and the way out."""

from __future__ import annotations

from collections.abc import Iterator

from parakit.alignment.config import ConstitutionConfig, RewardConfig, RolloutConfig
from parakit.common.choices import part_of
from parakit.common.errors import UserError
from parakit.data.conversations.from_documents import WrittenByModel
from parakit.recipe.sections import RecipeSections
from parakit.stages.config import LoraFinetuneConfig, PretrainConfig, VirtualTokensConfig, replay_of
from parakit.training.config import TrainingConfig, lengths_given
from parakit.training.task_names import check_objective, check_task, tasks_for

# What a trained model brings along: these settings are of a new model.
OF_NEW_MODEL = ("size", "architecture", "max_seq_len", "model", "tokenizer")


def check_start(recipe: RecipeSections) -> None:
    """A trained model to begin with has something to do, and is the only one."""
    if recipe.start is None:
        if recipe.replay is not None:
            raise UserError(
                "`replay` is set but has no effect: a new model has forgotten nothing",
                "remove it, or begin with a trained model: `start`",
            )
        return
    if recipe.base_model not in (None, recipe.start.model):
        raise UserError(
            f"`start` names {recipe.start.model}, and `pretrain.model` names {recipe.base_model}",
            "remove pretrain.model: pre-training continues the start",
        )
    if recipe.start.extend_vocab is not None and (recipe.pretrain == "none" or not recipe.reads_text):
        raise UserError(
            "`start.extend_vocab` is set, and there is no `text`: new tokens are learned on it, and continued"
            " pre-training on it trains their rows",
            "add text.paths, or remove it",
        )
    if recipe.replay is not None and recipe.pretrain == "none":
        raise UserError(
            "`replay` is set but has no effect: without `text` there is no pre-training to mix it into",
            "add text.paths, or remove it",
        )
    if (
        recipe.replay is not None
        and isinstance(recipe.pretrain, PretrainConfig)
        and replay_of(recipe.pretrain)
    ):
        raise UserError("`replay` and `pretrain.replay` both name earlier data", "keep one of the two")
    if recipe.pretrain == "none" and not (
        recipe.finetune or recipe.align or recipe.distill or recipe.quantize
    ):
        raise UserError(
            f"nothing is trained: the recipe begins with {recipe.start.model} and has no data",
            "add text, conversations, examples, or steps of `align`",
        )
    if not recipe.reads_text and recipe.text != type(recipe.text)():
        raise UserError("`text` has settings but no paths", "add text.paths, or remove them")
    is_read = (recipe.distill and recipe.task is None) or recipe.uses_documents
    if recipe.reads_text and recipe.pretrain == "none" and not is_read:
        raise UserError(
            "`text` is set but has no effect: `pretrain` is none",
            "remove one of the two; evaluate.texts names text to measure on",
        )


def check_task_data(recipe: RecipeSections) -> None:
    """A task and the data that it learns from come together, and fit the family."""
    task, finetune = recipe.task, recipe.finetune
    if recipe.objective:
        check_objective(recipe.objective, recipe.family)
    if finetune and not (recipe.conversations or recipe.examples):
        if "task" in finetune.model_fields_set:
            data = "conversations" if task == "chat" else "examples"
            raise UserError(f"task {task!r} learns from `{data}`, but there is no such section", "add it")
        raise UserError(
            "`finetune` is set but has no effect without conversations or examples",
            "add one of these sections, or remove this one",
        )
    check_index(recipe)
    if recipe.uses_documents and not recipe.reads_text:
        raise UserError("`conversations.from_documents` has no documents", "name them under text.paths")
    if _lacks_writer(recipe):
        raise UserError(
            "`conversations.from_documents` has no model that writes the questions",
            "set its model to a chat model's folder or the URL of an API, its writer to rules, or begin with a model (start)",
        )
    if recipe.conversations and (recipe.examples or task != "chat"):
        raise UserError(
            "`conversations` are for the task 'chat', but another task is set: a model is fine-tuned for one task",
            "remove the conversations or the other task",
        )
    if recipe.examples and task in (None, "chat"):
        raise UserError(
            "`examples` are given, but no task",
            f"add for example `finetune: {{task: {tasks_for(recipe.family)[-1]}}}`",
        )
    if recipe.pretrain == "none" and not (recipe.examples or recipe.start):
        raise UserError(
            "pretrain 'none' trains from scratch on `examples`, but there is no such section", "add it"
        )
    if task:
        check_task(task, recipe.family)


def check_index(recipe: RecipeSections) -> None:
    """An index has documents, and a model that answers from them."""
    if recipe.index is None:
        if recipe.conversations and recipe.conversations.from_index:
            raise UserError(
                "`conversations.from_index` has no index", "name the documents under `index: {paths: [...]}`"
            )
        return
    if not recipe.index.paths:
        raise UserError("`index` has no documents", "name files or folders under index.paths")
    is_chat = recipe.task == "chat" or (recipe.task is None and recipe.start is not None)
    if recipe.family != "decoder" or not is_chat:
        raise UserError(
            "`index` is for a chat model that answers from it, and this recipe makes none",
            "add `conversations: {from_index: {}}`, or make the index alone: parakit index",
        )


def _lacks_writer(recipe: RecipeSections) -> bool:
    """Whether a model is to write questions, and none is named."""
    questions = recipe.conversations.from_documents if recipe.conversations else None
    writer = part_of(questions, WrittenByModel) if questions else None
    return writer is not None and not (recipe.start or writer.model)


def check_post_training(recipe: RecipeSections) -> None:
    """Alignment and distillation have the model and the data that they need."""
    methods = [step.method for step in recipe.align]
    if recipe.align and recipe.task != "chat" and not (recipe.start and recipe.task is None):
        raise UserError(
            "`align` needs a chat-tuned model", "give `conversations` to fine-tune on, or remove it"
        )
    for step in recipe.align:
        if isinstance(step, RolloutConfig | ConstitutionConfig) and not (
            step.prompts or recipe.conversations
        ):
            raise UserError(
                f"method {step.method!r} has no prompts",
                "name files of them under prompts, or give conversations",
            )
    check_adapter(recipe)
    if twice := next((name for name in methods if methods.count(name) > 1), None):
        raise UserError(
            f"`align` has the method {twice!r} twice: a stage is named after its method", "keep one of them"
        )
    learns = [name for name in methods if name in ("reward", "dpo")]
    if learns and recipe.preferences is None:
        raise UserError(
            f"method {learns[0]!r} learns from `preferences`, but there is no such section", "add it"
        )
    if recipe.preferences is not None and not learns:
        raise UserError(
            "`preferences` are given, but nothing in `align` learns from them",
            "add a step with the method reward or dpo, or remove them",
        )
    for number, step in enumerate(recipe.align):
        rewarded = any(isinstance(other, RewardConfig) for other in recipe.align[:number])
        if isinstance(step, RolloutConfig) and step.reward is None and not rewarded:
            raise UserError(
                f"method {step.method!r} has no reward", "name one, or put a step `method: reward` before it"
            )
    if recipe.distill is not None and recipe.task not in (None, "chat"):
        raise UserError(
            f"`distill` learns the probabilities of tokens, and this model is fine-tuned for {recipe.task!r}",
            "distill the base model and fine-tune the student",
        )
    if recipe.distill is not None and recipe.family == "encoder-decoder":
        raise UserError("`distill` is for decoders and encoders", "remove it")
    if recipe.distill is not None and not (recipe.task or recipe.reads_text):
        raise UserError("`distill` has no data to learn from", "give conversations or text")
    if recipe.quantize is not None and (recipe.family != "decoder" or recipe.task not in (None, "chat")):
        raise UserError(
            "`quantize` is for models that predict the next token, and this one is"
            f" {recipe.family if recipe.family != 'decoder' else f'fine-tuned for {recipe.task!r}'}",
            "remove it",
        )


def check_adapter(recipe: RecipeSections) -> None:
    """Alignment and distillation begin with a model: an adapter is merged before them, if it can be."""
    if not recipe.merges or recipe.finetune is None:
        return
    if isinstance(recipe.finetune, VirtualTokensConfig):
        raise UserError(
            f"`finetune.method` is {recipe.finetune.method}, and alignment and distillation begin with a model, but a"
            " prompt or a prefix cannot be merged into weights",
            "choose the method full, lora or layers",
        )
    if isinstance(recipe.finetune, LoraFinetuneConfig) and recipe.finetune.merge is False:
        raise UserError(
            "`finetune.merge` is false, and alignment and distillation begin with a model, not with an adapter",
            "leave it out: the adapter is merged before them",
        )


def check_unused(recipe: RecipeSections) -> None:
    """`UserError` for a setting that nothing reads because of what another section says."""
    for key, reason in (*_unused_of_task(recipe), *_unused_of_model(recipe)):
        raise UserError(
            f"`{key}` is set but has no effect: {reason}", "remove it, or change what should read it"
        )


def _unused_of_task(recipe: RecipeSections) -> Iterator[tuple[str, str]]:
    """What the task, or its data, does not read."""
    evaluate, examples, task = recipe.evaluate, recipe.examples, recipe.task
    if examples and examples.labels is not None and task not in ("classify", "multi_label", "tag"):
        yield "examples.labels", f"the task {task} has none"
    if examples and examples.reverse and task != "translate":
        yield "examples.reverse", f"the task {task} has no source and target to swap"
    if recipe.questions and recipe.conversations is None and not recipe.start:
        yield "questions", "without conversations no model is fine-tuned for chat"
    if recipe.finetune and recipe.pretrain == "none" and not recipe.start:  # a new model
        given, usual = recipe.finetune, type(recipe.finetune)(task=recipe.finetune.task)
        for key in ("before_after", "n_compared_prompts", "max_compared_tokens"):
            if getattr(given, key, None) not in (None, "none", getattr(usual, key, None)):
                yield f"finetune.{key}", "a new model has learned nothing that it could be compared with"
    defaults = type(evaluate)()  # a recipe that a build wrote has every default filled in
    translates = task == "translate"
    if evaluate.max_new_tokens != defaults.max_new_tokens and not (
        evaluate.suites or evaluate.tasks or translates or recipe.index
    ):
        yield "evaluate.max_new_tokens", "there are no suites, and nothing is translated"
    if evaluate.n_beams != defaults.n_beams and not translates:
        yield "evaluate.n_beams", "nothing is translated"
    if evaluate.contamination != defaults.contamination and not (evaluate.suites or evaluate.tasks):
        yield (
            "evaluate.contamination",
            "there are no suites and no tasks, so there are no items to search for",
        )
    if evaluate.gate and not (evaluate.suites or evaluate.tasks):
        yield "evaluate.gate", "there are no suites and no tasks, so no model is compared with its parent"
    for key in ("data", "limit", "n_shots", "system_prompt", "fetch", "seed"):
        if getattr(evaluate, key) != getattr(defaults, key) and not evaluate.tasks:
            yield f"evaluate.{key}", "there are no tasks"
    n_models = sum(
        map(bool, (recipe.start, recipe.pretrain != "none", recipe.finetune, recipe.distill, recipe.quantize))
    )
    if evaluate.gate and n_models + len(recipe.align) < 2:
        yield "evaluate.gate", "no stage makes a model from another"


def _unused_of_model(recipe: RecipeSections) -> Iterator[tuple[str, str]]:
    """What the family, or a model that pre-training continues from, does not read."""
    if recipe.tokenizer.n_sentinels and recipe.objective != "span_corruption":
        yield "tokenizer.n_sentinels", f"the objective {recipe.objective} has no spans"
    for key in ("suites", "texts"):
        if getattr(recipe.evaluate, key) and recipe.family != "decoder":
            yield f"evaluate.{key}", f"it needs a decoder, and the family is {recipe.family}"
    if recipe.prompts and recipe.pretrain == "none" and not recipe.start:
        yield "prompts", "without pre-training there is no base model to sample from"
    if recipe.prompts and recipe.family == "encoder-decoder":
        yield "prompts", "an encoder-decoder is sampled on its task's examples"
    for key in OF_NEW_MODEL:
        if recipe.brought and key in recipe.model_fields_set and getattr(recipe, key) is not None:
            yield key, f"the model that `{recipe.brought}` names has its own"
    if recipe.time and (recipe.size or recipe.brought) and not open_lengths(recipe):
        yield "time", "the size and the length of training are both given"


def open_lengths(recipe: RecipeSections) -> bool:
    """Whether the time decides the length of any training, or ends one early."""
    sections = (recipe.pretrain, recipe.finetune, *recipe.align, recipe.distill)
    trained = [section for section in sections if isinstance(section, TrainingConfig)]
    return not trained or any(not lengths_given(section) for section in trained)
