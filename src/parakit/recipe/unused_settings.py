"""Keys of a recipe that were set though nothing reads them: found before any work is done. Imports no torch."""

from collections.abc import Iterator
from typing import Any, get_args

from parakit.alignment.config import READ_BY as READ_BY_ALIGNMENT
from parakit.alignment.config import Method
from parakit.common.settings import unread
from parakit.compression.config import Lesson, unread_distilling
from parakit.primer.config import PrimerConfig
from parakit.recipe.config import RecipeConfig
from parakit.stages.config import (
    READ_BY,
    READ_BY_METHOD,
    REPLAYING,
    FinetuneConfig,
    PretrainConfig,
    ReplayConfig,
    for_adapters,
)
from parakit.stages.data_config import CorpusConfig, ExamplesConfig
from parakit.stages.post_training_config import ASKING, REWARDED
from parakit.tokens.config import TokenizerConfig
from parakit.training.config import TrainingConfig, resolve, resolve_examples, sets_length
from parakit.training.task_names import ExampleTaskName, ObjectiveName, TaskName

_READ_BY: dict[str, frozenset[str]] = {
    **{str(learned): keys for learned, keys in READ_BY.items()},
    **{str(method): keys for method, keys in READ_BY_ALIGNMENT.items()},
}
_IN_TOKENS = {
    "best_of_n",
    "constitution",
}  # methods whose rows are conversations; those of the others are examples
# What the primer is asked for, by the section that asks.
_PRIMER_PART = {
    "text.primer": ("n_documents",),
    "conversations.primer": ("n_conversations",),
    "evaluate.suites": ("n_suite_items",),
    "examples.primer": ("n_examples", "n_test_examples"),
    "preferences.primer": ("n_examples", "n_test_examples"),
}
_READ_WITH_A_PRIMER = {"primer", "deduplicate", "validation_fraction", "test_fraction", "validation_paths"}
_READ_WITH_A_PRIMER |= {"min_corpus_bytes"}


def unread_keys(recipe: RecipeConfig) -> Iterator[tuple[str, str]]:
    """Every key that was set though no stage reads it in this recipe, with the reason."""
    yield from _unread_text(recipe.text)
    for section, primer in _primers(recipe).items():
        read = ("seed", *_PRIMER_PART[section])
        for key in sorted(primer.model_fields_set - set(read)):
            yield f"{section}.{key}", f"this section takes only {' and '.join(read)} of the primer"
    yield from _unread_tokenizer(recipe.tokenizer)
    if recipe.tokenizer.n_sentinels and recipe.pretrained_on != "span_corruption":
        yield "tokenizer.n_sentinels", f"{recipe.pretrained_on} hides no spans"
    if recipe.examples:
        yield from _unread_examples(recipe.examples, recipe.task)
    for section, learned in (("pretrain", recipe.pretrained_on), ("finetune", recipe.tuned_for)):
        training = getattr(recipe, section)
        for key in unread_training(training, learned) if training and learned != "none" else ():
            yield f"{section}.{key}", why_unread(key, training, learned)
    yield from _unread_later(recipe)
    yield from _unread_of_family(recipe)
    yield from _unread_going_on(recipe)
    longest = recipe.finetune if recipe.pretrained_on == "none" else recipe.pretrain
    sized = recipe.size or recipe.pretrain.model
    if recipe.time and sized and longest and sets_length(longest):
        yield "time", "the size and the length of training are both given"
    if recipe.questions and recipe.conversations is None:
        yield "questions", "without conversations there is no tuned model to ask"
    writes = recipe.evaluate.suites or recipe.task == "translate"
    if "max_new_tokens" in recipe.evaluate.model_fields_set and not writes:
        yield "evaluate.max_new_tokens", "there are no suites, and nothing is translated"
    if "n_beams" in recipe.evaluate.model_fields_set and recipe.task != "translate":
        yield "evaluate.n_beams", "nothing is translated"


def _unread_later(recipe: RecipeConfig) -> Iterator[tuple[str, str]]:
    """Settings of alignment and distillation that the chosen method never looks at."""
    for number, step in enumerate(recipe.align):
        for key in unread_training(step.settings(), step.method):
            yield f"align.{number}.{key}", why_unread(key, step, step.method)
        for key, readers in (("prompts", ASKING), ("reward", REWARDED), ("monitor_rewards", REWARDED)):
            if getattr(step, key) and step.method not in readers:
                yield f"align.{number}.{key}", f"it belongs to {' and '.join(readers)}, not to {step.method}"
    if recipe.distill is not None:
        learned: Lesson = "masked" if recipe.family == "encoder" else "next_token"
        learned = "chat" if recipe.tuned_for == "chat" else learned
        training = recipe.distill.settings()
        for key in unread_training(training, learned):
            if key in TrainingConfig.model_fields:
                yield f"distill.{key}", why_unread(key, training, learned)
        for key, reason in unread_distilling(training, learned).items():
            yield f"distill.{key}", reason


def _unread_of_family(recipe: RecipeConfig) -> Iterator[tuple[str, str]]:
    """What only other families read, and what pre-training would have read."""
    if recipe.family != "decoder":
        for key in ("suites", "texts"):
            if getattr(recipe.evaluate, key):
                yield (
                    f"evaluate.{key}",
                    f"it measures how a decoder goes on, and the family is {recipe.family}",
                )
    if recipe.prompts and recipe.family == "encoder-decoder":
        yield "prompts", "an encoder-decoder is shown by its task's examples"
    if recipe.pretrained_on == "none":
        if "pretrain" in recipe.model_fields_set:
            yield "pretrain", "objective: none leaves pre-training out"
        if recipe.prompts:
            yield "prompts", "objective: none makes no base model to sample from"


def _unread_going_on(recipe: RecipeConfig) -> Iterator[tuple[str, str]]:
    """What a model that goes on brings itself."""
    if recipe.pretrain.model is None or recipe.pretrained_on == "none":
        return
    for key in ("size", "architecture", "max_seq_len", "tokenizer"):
        if key in recipe.model_fields_set and getattr(recipe, key) is not None:
            yield key, "the model that `pretrain.model` names has its own"


def unread_training(
    config: TrainingConfig, learned: ObjectiveName | TaskName | Method | None = None
) -> list[str]:
    """The keys of a training section that were set and that its optimizer, its schedule and what is `learned`
    never look at. Drawing up a plan reads what counts.
    """
    if isinstance(config, FinetuneConfig):
        config = for_adapters(config)
    watched = config.replace()  # what others read of it is not ours to know
    rates: dict[str, Any] = {
        "learning_rate": 1.0,
        "embedding_learning_rate": 1.0,
        "max_seq_len": config.seq_len or 8,
    }
    enough = 10**15  # whether there is that much is known later, and said then
    if learned in get_args(ExampleTaskName) or learned in READ_BY_ALIGNMENT.keys() - _IN_TOKENS:
        resolve_examples(watched, n_train_examples=enough, **rates)
    else:
        resolve(watched, batch_tokens=1 << 20, n_train_tokens=enough, **rates)
    read = _READ_BY.get(learned, frozenset()) if learned else frozenset()
    read |= set() if learned in READ_BY_ALIGNMENT else {"dropout", "method"}
    read |= READ_BY_METHOD.get(getattr(config, "method", "full"), frozenset())
    read |= _read_of_replay(config, learned)
    if isinstance(config, PretrainConfig) and config.model is None:
        read |= {"embedding_init"}
    return [key for key in unread(watched) if key not in read and getattr(config, key) is not None]


def _read_of_replay(config: TrainingConfig, learned: ObjectiveName | TaskName | Method | None) -> set[str]:
    """Which settings of replay are read: where a trained model goes on with text or conversations."""
    if isinstance(config, PretrainConfig):
        reads = config.model is not None and learned in REPLAYING
    else:
        reads = isinstance(config, FinetuneConfig) and learned in REPLAYING
    read = {"model"} | ({"replay"} if reads else set())
    return read | ({"replay_share"} if reads and getattr(config, "replay", None) else set())


def why_unread(key: str, training: TrainingConfig, learned: ObjectiveName | TaskName | Method | None) -> str:
    """The reason that a person is told."""
    if key in ("batch_tokens", "max_tokens"):
        return "a task's rows are examples: batch_examples and epochs say it"
    if key == "batch_examples":
        return "text is counted in tokens: batch_tokens says it"
    if key == "embedding_init":
        return "a model that goes on has its token vectors"
    if key in ReplayConfig.model_fields and key not in TrainingConfig.model_fields:
        return _why_no_replay(key, training, learned)
    if key in TrainingConfig.model_fields:
        return f"with optimizer: {training.optimizer}, schedule: {training.schedule}"
    if isinstance(training, FinetuneConfig) and (
        methods := [m for m, keys in READ_BY_METHOD.items() if key in keys]
    ):
        return f"it belongs to method {' and '.join(methods)}, and the method is {training.method}"
    readers = [name for name, keys in _READ_BY.items() if key in keys]
    return f"it belongs to {' and '.join(readers)}, and this stage learns {learned}"


def _why_no_replay(
    key: str, training: TrainingConfig, learned: ObjectiveName | TaskName | Method | None
) -> str:
    if learned not in REPLAYING:
        return f"rows are mixed by {', '.join(REPLAYING)}, and this stage learns {learned}"
    if isinstance(training, PretrainConfig) and training.model is None:
        return "a fresh model has nothing to forget: name the `model` to go on from"
    return f"{key} belongs to `replay`, and none is named"


def _primers(recipe: RecipeConfig) -> dict[str, PrimerConfig]:
    conversations = recipe.conversations.primer if recipe.conversations else None
    examples = recipe.examples.primer if recipe.examples else None
    preferences = recipe.preferences.primer if recipe.preferences else None
    found = (recipe.text.primer, conversations, recipe.evaluate.suites, examples, preferences)
    return {section: primer for section, primer in zip(_PRIMER_PART, found, strict=True) if primer}


def _unread_text(text: CorpusConfig) -> Iterator[tuple[str, str]]:
    if text.primer and not text.validation_paths:
        for key in sorted(text.model_fields_set - _READ_WITH_A_PRIMER):
            if getattr(text, key) != CorpusConfig.model_fields[key].default:
                yield f"text.{key}", "the primer is generated, not read from files"
    if text.validation_paths and "validation_fraction" in text.model_fields_set:
        yield "text.validation_fraction", "validation_paths are the validation split"


def _unread_examples(examples: ExamplesConfig, task: TaskName | None) -> Iterator[tuple[str, str]]:
    given = examples.model_fields_set
    if examples.labels is not None and task not in ("classify", "tag"):
        yield "examples.labels", f"the task {task} has none"
    if examples.reverse and task != "translate":
        yield "examples.reverse", f"the task {task} has no source and target to swap"
    if examples.primer and examples.columns is not None:
        yield "examples.columns", "the primer is generated, not read from files"
    if examples.primer and "test_fraction" in given:
        yield "examples.test_fraction", "the primer holds out its own test split"
    for split in ("validation", "test"):
        if getattr(examples, f"{split}_paths") and f"{split}_fraction" in given:
            yield f"examples.{split}_fraction", f"{split}_paths are the {split} split"


def _unread_tokenizer(tokenizer: TokenizerConfig) -> Iterator[tuple[str, str]]:
    if "ties" in tokenizer.model_fields_set and tokenizer.kind != "byte_bpe":
        yield "tokenizer.ties", f"a {tokenizer.kind} tokenizer has no such ties"
    if "split_digits" in tokenizer.model_fields_set and tokenizer.kind == "char":
        yield "tokenizer.split_digits", "each character is a token of its own"
