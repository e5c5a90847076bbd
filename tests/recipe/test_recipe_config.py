"""Recipes: mistakes are found before any work is done, and told with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common import UserError
from parakit.model.presets import parse_size
from parakit.recipe import RecipeConfig, dry_run, load_recipe, recipe_for_text
from parakit.recipe.builder import BUILDS, _vocab_size
from parakit.recipe.config import parse_time

PRIMER = {"text": {"primer": {}}}


def write(folder: Path, content: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("content", "told", "way_out"),
    [
        ("tokeniser: {vocab_size: 512}", "unknown key `tokeniser`", "`tokenizer`"),
        ("tokenizer: {vocab_sise: 512}", "unknown key `tokenizer.vocab_sise`", "`vocab_size`"),
        ("text: {primer: {n_conversations: 9}}", "unknown key `text.primer.n_conversations`", ""),
        ("evaluate: {suites: {n_documents: 9}}", "unknown key `evaluate.suites.n_documents`", ""),
        ("text: {primer: {sead: 1}}", "unknown key `text.primer.sead`", "`seed`"),
        ("conversations: {primer: {n_conversation: 1}}", "conversations.primer.n_conversation", "`n_conv"),
        ("pretrain: {learning_rat: 1}", "unknown key `pretrain.learning_rat`", "`learning_rate`"),
        ("pretrain: {qqqq: 1}", "unknown key `pretrain.qqqq`", "known keys here: adam_betas"),
        ("finetune: {epochs: 1}", "`finetune` is set", ""),
        ("conversations: {}", "either paths or a primer", ""),
        ("name: a/b", "a name is letters", ""),
        ("text: {paths: mine.txt}", "`text.paths`", ""),
        ("pretrain: {optimizer: lion}", "'muon', 'adamw'", ""),
        ("max_seq_len: 2", "greater than or equal to 8 (got 2)", ""),
        ("name: x\nname: y", "key 'name' occurs twice (line 2)", ""),
        ("- a", "holds a list", "name: my-model"),
        ("a: [", "not readable as YAML", ""),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_the_way_out(tmp_path, content, told, way_out):
    with pytest.raises(UserError) as error:
        load_recipe(write(tmp_path, content))
    assert "mine.yaml" in error.value.message
    assert told in error.value.message
    assert way_out in error.value.hint


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"pretrain": {"schedule": "cosine", "decay_fraction": 0.3}}, "pretrain.decay_fraction"),
        ({"pretrain": {"schedule": "constant", "final_fraction": 0.1}}, "pretrain.final_fraction"),
        ({"pretrain": {"optimizer": "adamw", "momentum": 0.9}}, "pretrain.momentum"),
        (
            {"pretrain": {"optimizer": "adamw", "embedding_learning_rate": 1e-3}},
            "pretrain.embedding_learning_rate",
        ),
        (
            {"conversations": {"primer": {}}, "finetune": {"optimizer": "adamw", "momentum": 0.9}},
            "finetune.momentum",
        ),
        ({"text": {"primer": {}, "exclude": ["*.md"]}}, "text.exclude"),
        ({"evaluate": {"max_new_tokens": 9}}, "evaluate.max_new_tokens"),
        ({"tokenizer": {"kind": "char", "split_digits": False}}, "tokenizer.split_digits"),
        ({"tokenizer": {"kind": "unigram", "ties": "greatest_pair"}}, "tokenizer.ties"),
        ({"questions": ["Who?"]}, "questions"),
        ({"size": "1m", "time": "10min", "pretrain": {"max_steps": 3}}, "time"),
        (
            {"text": {"paths": ["x"], "validation_paths": ["y"], "validation_fraction": 0.2}},
            "text.validation_fraction",
        ),
    ],
)
def test_a_key_that_no_stage_reads_is_refused(settings, key):
    with pytest.raises(UserError) as error:
        RecipeConfig.parse(PRIMER | settings)
    section, _, name = key.rpartition(".")
    assert (
        f"`{key}` is set but" in error.value.message or f"`{section}`: `{name}` is set" in error.value.message
    )
    assert error.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"pretrain": {"schedule": "wsd", "decay_fraction": 0.3, "momentum": 0.9, "weight_decay": 0.1}},
        {"pretrain": {"optimizer": "adamw", "learning_rate": 1e-3, "adam_betas": [0.9, 0.99]}},
        {"pretrain": {"epochs": None, "max_steps": 3, "save_every": 1, "compile": "off", "device": "cpu"}},
        {"pretrain": {"optimizer": "adamw", "embedding_learning_rate": None}},
        {"size": "1m", "time": "10min"},
        {"time": "10min", "pretrain": {"max_steps": 3}},
        {"text": {"primer": {"seed": 1, "n_documents": 9}, "validation_fraction": 0.1, "deduplicate": True}},
        {"evaluate": {"suites": {"n_suite_items": 9}, "max_new_tokens": 3}},
    ],
)
def test_what_is_read_is_not_refused(settings):
    RecipeConfig.parse(PRIMER | settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": "5q"}, "5q"),
        ({"time": "soon"}, "soon"),
        ({"text": {"paths": ["absent-folder"]}}, "absent-folder"),
        ({"evaluate": {"texts": ["absent.txt"]}}, "absent.txt"),
        ({"conversations": {"paths": ["absent.jsonl"]}}, "absent.jsonl"),
        ({"text": {}}, "no text was given"),
    ],
)
def test_what_would_fail_hours_later_fails_at_once(settings, told):
    with pytest.raises(UserError, match=told) as error:
        dry_run(RecipeConfig.parse(PRIMER | settings), BUILDS)
    assert error.value.hint


def test_overrides_are_laid_over_a_recipe(tmp_path):
    path = write(tmp_path, "text: {primer: {seed: 1}}\nconversations:\nsize: 5000000\n")
    recipe = load_recipe(path, {"text.primer.n_documents": 7, "pretrain.max_steps": 3, "name": "other"})
    assert (recipe.name, recipe.size, recipe.pretrain.max_steps) == ("other", "5000000", 3)
    assert (recipe.text.primer.seed, recipe.text.primer.n_documents) == (1, 7)
    assert load_recipe(path).name == "mine"
    assert load_recipe(path, {"conversations.primer.seed": 2}).conversations.primer.seed == 2
    with pytest.raises(UserError, match=r"`size\.x`: `size` is not a group of settings"):
        load_recipe(path, {"size.x": 1})
    with pytest.raises(UserError, match=r"unknown key `pretrain\.max_step`"):
        load_recipe(path, {"pretrain.max_step": 1})


def test_a_recipe_for_text_chooses_what_is_left_open(tmp_path):
    folder = tmp_path / "my böoks.v2"
    folder.mkdir()
    (folder / "a.txt").write_text("x" * 3_000_000)
    recipe = recipe_for_text([str(folder)])
    assert (recipe.name, recipe.time, recipe.size) == ("my-b-oks", "10min", None)
    assert recipe.tokenizer.vocab_size > recipe_for_text([__file__]).tokenizer.vocab_size
    assert recipe_for_text([str(folder)], {"size": "1m"}).time is None
    assert recipe_for_text([str(folder)], {"tokenizer.vocab_size": 777}).tokenizer.vocab_size == 777
    for key in ("paths", "overrides", "nmae"):
        with pytest.raises(UserError, match=f"unknown key `{key}`"):
            recipe_for_text([str(folder)], {key: 1})


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90s", 90),
        ("30min", 1800),
        ("30 m", 1800),
        ("1.5h", 5400),
        ("2H", 7200),
        ("1d", 86400),
        (" 1sec ", 1),
    ],
)
def test_times(time, seconds):
    assert parse_time(time) == seconds


@pytest.mark.parametrize("time", ["", "10", "0s", "-3s", "ten minutes", "1h30m", "nan s", "1e3s", "min"])
def test_what_is_no_time_is_refused_with_an_example(time):
    with pytest.raises(UserError, match="is not a length of time") as error:
        parse_time(time)
    assert "30min" in error.value.hint


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_a_size_or_refused(text):
    for parse in (parse_time, parse_size):
        told = ""
        try:
            assert parse(text) > 0
        except UserError as error:
            told = error.message
        assert not told or repr(text) in told


@pytest.mark.parametrize(
    ("size", "count"), [("5m", 5e6), ("1.5M", 1.5e6), ("300k", 3e5), (1000, 1000), ("2b", 2e9)]
)
def test_sizes(size, count):
    assert parse_size(size) == count


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_more_text_never_gets_a_smaller_vocabulary(one, other):
    few, many = sorted((one, other))
    assert 512 <= _vocab_size(few) <= _vocab_size(many) <= 65_536
