"""The form of a recipe follows its schema, and its YAML is what counts."""

from __future__ import annotations

import pytest

from parakit.common.errors import UserError
from parakit.common.settings import load_yaml
from parakit.recipe import RecipeConfig, built_in_recipe
from parakit.serving.studio.training.recipe_form import (
    changed,
    check,
    form_sections,
    parse_yaml,
    read_value,
    to_yaml,
)


def test_every_setting_of_a_recipe_is_in_the_form() -> None:
    sections = {section.name: section for section in form_sections({})}
    in_form = {field.path[0] for section in sections.values() for field in section.fields}
    assert set(RecipeConfig.model_fields) <= in_form | set(sections)
    method = next(field for field in sections["finetune"].fields if field.path[-1] == "method")
    assert method.kind == "choice"
    assert "lora" in method.choices


def test_the_built_in_recipe_goes_through_the_form_unchanged() -> None:
    mapping = load_yaml(built_in_recipe())
    assert parse_yaml(to_yaml(mapping)) == mapping
    assert check(mapping) == RecipeConfig.parse(mapping)
    values = {field.path: field.value for section in form_sections(mapping) for field in section.fields}
    assert values["pretrain", "max_tokens"] == mapping["pretrain"]["max_tokens"]
    assert values["size",] == mapping["size"]


def test_changes_add_and_remove_settings() -> None:
    mapping = changed({"name": "a"}, ("pretrain", "learning_rate"), 0.01)
    assert mapping == {"name": "a", "pretrain": {"learning_rate": 0.01}}
    assert changed(mapping, ("pretrain", "learning_rate"), None) == {"name": "a"}
    assert changed(mapping, ("pretrain", "max_steps"), 5)["pretrain"] == {
        "learning_rate": 0.01,
        "max_steps": 5,
    }
    assert mapping == {"name": "a", "pretrain": {"learning_rate": 0.01}}


def test_entered_values() -> None:
    assert read_value("integer", "1,000") == 1000
    assert read_value("number", "0.02") == 0.02
    assert read_value("list", "one\n two \n") == ["one", "two"]
    assert read_value("yaml", "[{method: dpo}]") == [{"method": "dpo"}]
    assert read_value("text", "  ") is None
    with pytest.raises(UserError, match="no number"):
        read_value("integer", "many")


@pytest.mark.parametrize("text", ["- a", "a: [", "1: 2", "!!python/object/apply:os.system [true]"])
def test_a_text_that_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_yaml(text)


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(UserError, match="learning_rat"):
        check({"name": "a", "pretrain": {"learning_rat": 1}})


def test_common_settings_are_shown_at_once_and_every_one_that_is_set() -> None:
    sections = {section.name: section for section in form_sections({"pretrain": {"adam_betas": [0.9, 0.95]}})}
    shown = {field.path[-1] for field in sections["pretrain"].fields if field.is_common}
    assert {"learning_rate", "max_tokens", "adam_betas"} <= shown
    assert "final_fraction" not in shown
    assert all(any(field.is_common for field in section.fields) for section in sections.values())
