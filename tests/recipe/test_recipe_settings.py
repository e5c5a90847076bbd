"""No key is ignored: of every section and command, a key that the chosen method, objective, task, optimizer ... does not
have is refused with its name and who has it, and a key that it has changes the stage. Derived from the settings'
classes, so that a new field is covered by itself.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import TypeAdapter, ValidationError

from parakit.alignment.config import AlignConfig
from parakit.cli import align, distill, finetune, pretrain
from parakit.cli.rendering.arguments import parse_arguments
from parakit.common import UserError
from parakit.common.choices import GIVEN, Presence, all_options, choices_of, chosen_class, owners
from parakit.common.settings import Config, config_digest, load_yaml
from parakit.compression.config import DistillConfig
from parakit.recipe import load_recipe
from parakit.recipe.stage_list import stages_of
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.tokens.config import TokenizerConfig
from parakit.training.config import WITHOUT_EFFECT

GROUPS: dict[str, type[Config]] = {
    "tokenizer": TokenizerConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "align": AlignConfig,
    "distill": DistillConfig,
}
COMMANDS: dict[str, tuple[type[Config], type[Config]]] = {
    "pretrain": (pretrain.PretrainCommandConfig, PretrainConfig),
    "finetune": (finetune.FinetuneCommandConfig, FinetuneConfig),
    "align": (align.AlignCommandConfig, AlignConfig),
    "distill": (distill.DistillCommandConfig, DistillConfig),
}
RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
EXCLUSIVE = (
    {"max_steps", "max_tokens", "epochs"},
    {"keep_layers", "size", "student"},
    {"cache_top_k", "on_policy_share", "hidden_coef"},
)
ELSEWHERE = {"revisions"}  # repeats a run in place of max_steps: tests/training/test_training_pace.py
SAMPLES: tuple[Any, ...] = (
    2,
    "data=2",
    1024,
    4,
    3,
    0.25,
    0.5,
    0.75,
    True,
    False,
    "x",
    ("x",),
    (1,),
    (2.0, 3.0),
    (0.5, 0.75),
)


def cases(group: type[Config]) -> list[dict[str, Any]]:
    """The smallest settings that make every choice of a group: none of them, and one for every option."""
    found: list[dict[str, Any]] = [{}] if "method" not in required(group) else []
    for path, _ in all_options(group):
        case = {
            name: sample(group, name) if value is GIVEN else value
            for name, value in path
            if not (isinstance(value, Presence) and value is not GIVEN)
        }
        if case not in found and (not required(group) or required(group) <= case.keys()):
            found.append(case)
    return found


def required(group: type[Config]) -> set[str]:
    return {name for name, field in group.model_fields.items() if field.is_required()}


@functools.cache
def fields(group: type[Config]) -> dict[str, list[Any]]:
    """Every key of a group and its options, with the fields that define it."""
    found: dict[str, list[Any]] = {}
    for one in (group, *(option for _, option in all_options(group))):
        for name, field in one.model_fields.items():
            found.setdefault(name, []).append(field)
    return found


def values(field: Any) -> Iterator[Any]:
    """Values that a field takes, other than its default."""
    parts = (field.annotation, *get_args(field.annotation))
    literals = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    adapter = TypeAdapter(Annotated[field.annotation, field])
    for value in (*literals, *SAMPLES):
        try:
            taken = adapter.validate_python(value)
        except ValidationError:
            continue
        if taken not in (None, field.default) and isinstance(taken, bool) == isinstance(value, bool):
            yield value


def sample(group: type[Config], name: str) -> Any:
    return next(value for field in fields(group)[name] for value in values(field))


def changed(group: type[Config], case: dict[str, Any], name: str) -> Any:
    """A value of `name` with which the case is still valid."""
    for value in values(chosen_class(group, case).model_fields[name]):
        try:
            group.parse(case | {name: value})
        except UserError:
            continue
        return value
    raise AssertionError(f"no other value of {name} is valid with {case}")


def settable(group: type[Config], case: dict[str, Any]) -> set[str]:
    """The keys that the case has and leaves open, and that exclude none of its own."""
    excluded = {name for names in EXCLUSIVE if names & case.keys() for name in names}
    return chosen_class(group, case).model_fields.keys() - case.keys() - excluded - ELSEWHERE


EVERY_CASE = [
    pytest.param(section, case, id=f"{section}-{'-'.join(map(str, case.values())) or 'default'}")
    for section, group in GROUPS.items()
    for case in cases(group)
]


@pytest.mark.parametrize(("section", "case"), EVERY_CASE)
def test_a_key_of_another_choice_is_refused_with_its_name_and_who_has_it(
    section: str, case: dict[str, Any]
) -> None:
    group = GROUPS[section]
    foreign = fields(group).keys() - chosen_class(group, case).model_fields.keys()
    for name in foreign:
        with pytest.raises(UserError) as error:
            group.parse(case | {name: sample(group, name)}, "my.yaml")
        assert f"`{name}` is set but has no effect: " in error.value.message
        assert any(choice in error.value.message for path in owners(group, name) for choice, _ in path)
        assert error.value.hint


@pytest.mark.parametrize(("section", "case"), EVERY_CASE)
def test_a_key_of_the_choice_changes_the_settings(section: str, case: dict[str, Any]) -> None:
    group = GROUPS[section]
    before = config_digest(group.parse(case))
    for name in settable(group, case):
        assert config_digest(group.parse(case | {name: changed(group, case, name)})) != before, name


def test_every_key_is_read_somewhere() -> None:
    source = Path(__file__).resolve().parents[2] / "src" / "parakit"
    read = {
        node.attr
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    for group in GROUPS.values():
        assert set(fields(group)) - read == set()


def test_a_typo_is_refused_with_the_nearest_key_also_of_another_choice() -> None:
    for group, case, typo, meant in (
        (AlignConfig, {"method": "dpo"}, "label_smothing", "label_smoothing"),
        (AlignConfig, {"method": "dpo"}, "clip_rnge", "clip_range"),
        (FinetuneConfig, {}, "lora_dropot", "lora_dropout"),
    ):
        with pytest.raises(UserError, match=f"unknown key `{typo}`") as error:
            group.parse(case | {typo: 0.1})
        assert f"`{meant}`" in error.value.hint


# ---- recipes


def sections(path: Path) -> Iterator[tuple[str, type[Config], dict[str, Any]]]:
    """The sections with choices that a recipe has, as its defaults complete them."""
    recipe = load_recipe(path)
    for section, group in GROUPS.items():
        if section == "tokenizer" and recipe.brought:
            continue  # the model to begin with has its own: tests/recipe/test_recipe_start.py
        found = getattr(recipe, section)
        for number, one in enumerate(found if isinstance(found, tuple) else [found]):
            if isinstance(one, group):
                key = f"{section}.{number}" if isinstance(found, tuple) else section
                yield key, group, one.model_dump(exclude_unset=True)


def overridden(path: Path, section: str, name: str, value: Any) -> Any:
    if not section.startswith("align."):
        return load_recipe(path, {f"{section}.{name}": value})
    steps = load_yaml(path)["align"]
    steps[int(section.partition(".")[2])][name] = value
    return load_recipe(path, {"align": steps})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_refuses_the_keys_of_other_choices(path: Path) -> None:
    for section, group, case in sections(path):
        for name in fields(group).keys() - chosen_class(group, case).model_fields.keys():
            with pytest.raises(UserError, match=rf"`{section}\.{name}` is set but has no effect"):
                overridden(path, section, name, sample(group, name))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_key_of_a_recipe_changes_a_stage(path: Path, tmp_path: Path) -> None:
    def stages(recipe: Any) -> list[Any]:
        return [(stage.name, stage.settings) for stage in stages_of(recipe, tmp_path)]

    before = stages(load_recipe(path))
    unchecked = {"n_sentinels", "reward"}  # set by the objective; resolved by the recipe
    unchecked |= WITHOUT_EFFECT
    if load_recipe(path).start is None:  # a new model cannot be compared with itself: refused
        unchecked |= {"before_after", "n_compared_prompts", "max_compared_tokens"}
    for section, group, case in sections(path):
        for name in settable(group, case) - unchecked:
            if name in ("model", "replay", "objective", "task", "method"):
                continue  # chosen with other sections: tests/recipe/test_recipe_families.py
            value = changed(group, case, name)
            assert stages(overridden(path, section, name, value)) != before, f"{section}.{name}"


# ---- commands


def words(name: str, value: Any, default: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool) and isinstance(default, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]


def commands() -> Iterator[Any]:
    """Every case of a command; in the short suite those that choose something for the first time."""
    for verb, (_, group) in COMMANDS.items():
        seen: set[tuple[str, Any]] = set()
        for case in cases(group):
            marks = () if not case or set(case.items()) - seen else pytest.mark.long
            name = f"{verb}-{'-'.join(map(str, case.values())) or 'default'}"
            yield pytest.param(verb, case, id=name, marks=marks)
            seen |= set(case.items())


@pytest.mark.parametrize(("verb", "case"), list(commands()))
def test_a_flag_of_the_choice_is_taken(verb: str, case: dict[str, Any]) -> None:
    command, group = COMMANDS[verb]
    base, chosen = words_of(case), chosen_class(group, case).model_fields
    before = parse_arguments(command, group, base, f"parakit {verb}")[1]
    assert before == group.parse(case)
    for together in joint_changes(group, case):
        argv = [word for name, value in together.items() for word in words(name, value, chosen[name].default)]
        settings = parse_arguments(command, group, [*base, *argv], f"parakit {verb}")[1]
        assert settings == group.parse(case | together)


def words_of(case: dict[str, Any]) -> list[str]:
    """What makes a command one of the case."""
    return ["folder", "--output", "out", *(word for key in case for word in words(key, case[key], None))]


def flags_of_other_choices() -> Iterator[Any]:
    """Every case of a command with the flags that it lacks; in the short suite each flag is with one case that lacks it."""
    for verb, (_, group) in COMMANDS.items():
        seen: set[str] = set()
        for case in cases(group):
            lacking = set(fields(group)) - set(chosen_class(group, case).model_fields)
            name = f"{verb}-{'-'.join(map(str, case.values())) or 'default'}"
            if new := sorted(lacking - seen):
                yield pytest.param(verb, case, new, id=name)
            if rest := sorted(lacking & seen):
                yield pytest.param(verb, case, rest, id=f"{name}-rest", marks=pytest.mark.long)
            seen |= lacking


@pytest.mark.parametrize(("verb", "case", "names"), list(flags_of_other_choices()))
def test_a_flag_of_another_choice_is_refused(verb: str, case: dict[str, Any], names: list[str]) -> None:
    command, group = COMMANDS[verb]
    base = words_of(case)
    for name in names:
        argv = words(name, sample(group, name), fields(group)[name][0].default)
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} is set but has no effect"):
            parse_arguments(command, group, [*base, *argv], f"parakit {verb}")


def joint_changes(group: type[Config], case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Another value for every key that the case leaves open, as many at a time as are valid together."""
    left = {name: changed(group, case, name) for name in settable(group, case) - choices_of(group).keys()}
    while left:
        together: dict[str, Any] = {}
        for name, value in left.items():
            try:
                group.parse(case | together | {name: value})
            except UserError:
                continue
            together[name] = value
        yield together
        left = {name: value for name, value in left.items() if name not in together}
