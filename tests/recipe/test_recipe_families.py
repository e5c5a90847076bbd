"""A recipe's family chooses what is sensible; what contradicts it is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.common import UserError
from parakit.recipe import RecipeConfig, dry_run
from parakit.recipe.stage_list import stages_of
from parakit.training.task_names import OBJECTIVES, TASK_FAMILIES, check_task, tasks_for

TEXT = {"text": {"primer": {}}}
EXAMPLES = {"examples": {"primer": {}}}


def recipe(**settings) -> RecipeConfig:
    return RecipeConfig.parse(TEXT | settings)


def stages(made: RecipeConfig, tmp_path: Path) -> dict[str, tuple[str, ...]]:
    return {stage.name: stage.parents for stage in stages_of(made, tmp_path)}


@pytest.mark.parametrize(
    ("family", "objective"),
    [("decoder", "next_token"), ("encoder", "masked"), ("encoder-decoder", "span_corruption")],
)
def test_a_family_has_its_own_objective(family, objective):
    assert recipe(family=family).objective == objective
    assert recipe(family=family, pretrain={"objective": None}).objective == objective


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"family": "encodr"}, "'encoder-decoder'"),
        (
            {"family": "encoder", "pretrain": {"objective": "next_token"}},
            "'next_token' does not fit the family 'encoder'",
        ),
        ({"family": "decoder", "pretrain": {"objective": "masked"}}, "takes: next_token, prefix"),
        (
            {"family": "encoder", "finetune": {"task": "translate"}, **EXAMPLES},
            "needs an encoder and a decoder",
        ),
        (
            {"family": "encoder-decoder", "finetune": {"task": "classify"}, **EXAMPLES},
            "'encoder' or 'decoder'",
        ),
        ({"family": "encoder", "conversations": {"primer": {}}}, "only a decoder continues"),
        ({"finetune": {"task": "classify"}}, "learns from `examples`"),
        ({"finetune": {"task": "chat"}}, "learns from `conversations`"),
        (EXAMPLES, "`examples` are given, but no task add for example `finetune: {task: embed}`"),
        (
            {"conversations": {"primer": {}}, "finetune": {"task": "classify"}},
            "a model is fine-tuned for one task",
        ),
        ({"conversations": {"primer": {}}, **EXAMPLES}, "a model is fine-tuned for one task"),
        ({"pretrain": "none"}, "trains from scratch on `examples`"),
        ({"finetune": {"task": "classify"}, "examples": {}}, "either paths or a primer"),
        ({"finetune": {"task": "clasify"}, **EXAMPLES}, "'classify'"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_reason(settings, told):
    with pytest.raises(UserError) as error:
        RecipeConfig.parse(TEXT | settings)
    assert told in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"family": "encoder", "evaluate": {"suites": {}}}, "evaluate.suites"),
        ({"family": "encoder", "evaluate": {"texts": ["README.md"]}}, "evaluate.texts"),
        ({"family": "encoder-decoder", "prompts": ["It was"]}, "prompts"),
        ({"pretrain": {"whole_word": True}}, "pretrain.whole_word"),
        ({"family": "encoder", "pretrain": {"mean_span": 4}}, "pretrain.mean_span"),
        ({"pretrain": {"batch_examples": 8}}, "pretrain.batch_examples"),
        ({"pretrain": {"model": "base", "embedding_init": "random"}}, "pretrain.embedding_init"),
        ({"tokenizer": {"n_sentinels": 8}}, "tokenizer.n_sentinels"),
        ({"finetune": {"task": "classify", "label_smoothing": 0.1}, **EXAMPLES}, "finetune.label_smoothing"),
        ({"finetune": {"task": "classify", "temperature": 0.1}, **EXAMPLES}, "finetune.temperature"),
        ({"finetune": {"task": "classify", "batch_tokens": 512}, **EXAMPLES}, "finetune.batch_tokens"),
        (
            {"finetune": {"task": "classify"}, "evaluate": {"max_new_tokens": 4}, **EXAMPLES},
            "evaluate.max_new_tokens",
        ),
        ({"finetune": {"task": "classify"}, "examples": {"primer": {}, "reverse": True}}, "examples.reverse"),
        ({"finetune": {"task": "embed"}, "examples": {"primer": {}, "labels": ["a"]}}, "examples.labels"),
        (
            {"finetune": {"task": "embed"}, "examples": {"primer": {}, "test_fraction": 0.1}},
            "examples.test_fraction",
        ),
        (
            {"finetune": {"task": "embed"}, "examples": {"primer": {"n_documents": 3}}},
            "examples.primer.n_documents",
        ),
        (
            {"finetune": {"task": "embed"}, "examples": {"primer": {}, "columns": ["text"]}},
            "examples.columns",
        ),
        (
            {
                "finetune": {"task": "embed"},
                "examples": {"paths": ["a.csv"], "test_paths": ["b.csv"], "test_fraction": 0.1},
            },
            "examples.test_fraction",
        ),
        (
            {"pretrain": {"max_steps": 3}, "prompts": ["x"], "family": "encoder-decoder"},
            "prompts",
        ),
        (
            {
                **{"pretrain": "none", "size": "1m", "time": "1min"},
                **{"finetune": {"task": "classify", "epochs": 1}, **EXAMPLES},
            },
            "time",
        ),
    ],
)
def test_a_key_that_the_family_or_task_never_reads_is_refused(settings, key):
    with pytest.raises(UserError) as error:
        recipe(**settings)
    section, _, name = key.rpartition(".")
    named = (f"`{key}` is set but", f"`{section}`: `{name}` is set", f"unknown key `{key}`")
    assert any(words in error.value.message for words in named)
    assert error.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"family": "encoder", "pretrain": {"whole_word": True, "noise_rate": 0.2, "dropout": 0.1}},
        {"family": "encoder-decoder", "pretrain": {"mean_span": 4, "noise_rate": 0.2}},
        {"pretrain": {"embedding_init": "cooccurrence", "embedding_learning_rate": 0.001}},
        {"family": "encoder-decoder", "tokenizer": {"n_sentinels": 8}},
        {
            "finetune": {"task": "embed", "temperature": 0.1, "pooling": "last", "batch_examples": 8},
            **EXAMPLES,
        },
        {
            **{"family": "encoder-decoder", "pretrain": "none"},
            **{
                "finetune": {"task": "translate", "label_smoothing": 0.1, "dropout": 0.1},
                "evaluate": {"max_new_tokens": 9},
            },
            **{"examples": {"primer": {"n_examples": 9, "n_test_examples": 2}, "reverse": True}},
        },
    ],
)
def test_what_the_family_or_task_reads_is_not_refused(settings):
    recipe(**settings)


def test_the_stages_of_a_pre_trained_and_tuned_model(tmp_path):
    found = stages(recipe(family="encoder", finetune={"task": "classify"}, **EXAMPLES), tmp_path)
    assert list(found)[:3] == ["corpus", "tokenizer", "shards"]
    assert list(found)[3:] == ["examples", "example_shards", "pretrain", "finetune", "evaluate"]
    assert found["finetune"] == ("pretrain", "example_shards")
    assert found["evaluate"] == ("pretrain", "finetune", "examples")


def test_without_pre_training_the_examples_make_the_tokenizer(tmp_path):
    made = RecipeConfig.parse(
        {"family": "encoder-decoder", "pretrain": "none", "finetune": {"task": "translate"}, **EXAMPLES}
    )
    found = stages(made, tmp_path)
    assert list(found) == ["examples", "tokenizer", "example_shards", "finetune", "evaluate"]
    assert found["tokenizer"] == ("examples",)
    assert found["finetune"] == ("tokenizer", "example_shards")
    with_text = stages(made.replace(text={"primer": {"n_documents": 9}}), tmp_path)
    assert list(with_text)[:2] == ["corpus", "tokenizer"]
    assert with_text["tokenizer"] == ("corpus",)


def test_every_parent_comes_before_its_child(tmp_path):
    for family in OBJECTIVES:
        for task in tasks_for(family):
            data = (
                {"conversations": {"primer": {}}}
                if task == "chat"
                else {"finetune": {"task": task}, **EXAMPLES}
            )
            for pretrain in ({}, *([] if task == "chat" else ["none"])):
                seen: set[str] = set()
                for name, parents in stages(
                    recipe(family=family, pretrain=pretrain, **data), tmp_path
                ).items():
                    assert set(parents) <= seen
                    seen.add(name)


def test_sentinels_come_with_span_corruption_alone(tmp_path):
    def sentinels(made: RecipeConfig) -> int:
        return next(s for s in stages_of(made, tmp_path) if s.name == "tokenizer").settings["n_sentinels"]

    assert sentinels(recipe()) == sentinels(recipe(family="encoder")) == 0
    assert sentinels(recipe(family="encoder-decoder", pretrain={"objective": "prefix"})) == 0
    few, many = (sentinels(recipe(family="encoder-decoder", max_seq_len=n)) for n in (64, 512))
    assert 0 < few < many
    assert sentinels(recipe(family="encoder-decoder", tokenizer={"n_sentinels": 5})) == 5


def test_every_task_has_a_family_and_every_other_one_is_told_the_way_out():
    for task, fit in TASK_FAMILIES.items():
        for family in OBJECTIVES:
            if family in fit:
                check_task(task, family)
                continue
            with pytest.raises(UserError, match=f"task '{task}' does not fit") as error:
                check_task(task, family, "some/model")
            assert "some/model" in error.value.message
            assert fit[0] in error.value.hint


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"architecture": "bert"}, "belongs to the family 'encoder'"),
        ({"family": "encoder", "architecture": "brt"}, "did you mean 'bert'"),
        ({"finetune": {"task": "classify"}, "examples": {"paths": ["absent.csv"]}}, "absent.csv"),
        (
            {
                "family": "encoder-decoder",
                "finetune": {"task": "translate"},
                "examples": {"paths": ["a.en:absent.de"]},
            },
            "a.en",
        ),
    ],
)
def test_what_would_fail_hours_later_fails_at_once(settings, told, tmp_path):
    with pytest.raises(UserError) as error:
        dry_run(recipe(**settings), tmp_path)
    assert told in f"{error.value.message} {error.value.hint}"
