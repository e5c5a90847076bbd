"""Settings that depend on a choice: `momentum` exists only with `optimizer: muon`, `rank` with `method: lora`.

A group (`ChoiceConfig`) lists its choices: a field, and for its values the class with the settings that go with them.
Validation composes a class of the group and the chosen options, so that an instance has exactly the fields that its
choices read, flat, as in YAML and on the command line; any other key is an error that names who has it. An option that
is a subclass of the group replaces it: `FinetuneConfig(method="lora")` is a `LoraFinetuneConfig`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar, Self, TypeVar, cast

from pydantic import GetJsonSchemaHandler, ModelWrapValidatorHandler, model_validator
from pydantic.fields import FieldInfo

from parakit.common.settings import Config


class Presence(Enum):
    """Keys of options that depend on whether a field is set, whatever its value. Zero and False are not set."""

    GIVEN = "given"
    ABSENT = "absent"


GIVEN, ABSENT = Presence.GIVEN, Presence.ABSENT
Option = TypeVar("Option", bound=Config)
Route = tuple[tuple[str, Any], ...]  # choices and their values, each inside the one before


class ChoiceConfig(Config):
    """A group of settings with choices; see the module's docstring."""

    composed: ClassVar[bool] = False

    def __new__(cls, **values: Any) -> Self:
        return super().__new__(chosen_class(cls, values))

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls.composed or not isinstance(values, Mapping):
            return handler(values)
        chosen = chosen_class(cls, values)
        known = chosen.model_fields
        # null takes a setting away, also one that another choice would have
        return chosen.model_validate(
            {
                key: value
                for key, value in values.items()
                if value is not None or key in known or not owners(cls, key)
            }
        )

    @classmethod
    def _group(cls) -> type[Config]:
        listed = next(base for base in cls.__mro__ if not vars(base).get("composed", False))
        return _group_of(listed)

    @classmethod
    def chosen_fields(cls, values: Mapping[str, Any]) -> dict[str, FieldInfo]:
        return chosen_class(cls, values).model_fields

    @classmethod
    def every_field(cls) -> set[str]:
        return {name for _, option in all_options(cls) for name in option.model_fields} | set(
            cls.model_fields
        )

    @classmethod
    def explain_foreign(
        cls, values: Mapping[str, Any], key: str, spell: Callable[[str], str]
    ) -> tuple[str, str] | None:
        return explain_foreign(cls, values, key, spell) if owners(cls, key) else None

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        resolved = handler.resolve_ref_schema(schema)
        _add_options(cls, resolved, handler)
        return schema


def part_of(config: Config, option: type[Option]) -> Option | None:
    """`config` as its chosen `option`, or None where that is not chosen."""
    return config if isinstance(config, option) else None


def choices_of(group: type[Config]) -> dict[str, dict[Any, type[Config]]]:
    """The choices of a class and its bases, its own first."""
    found: dict[str, dict[Any, type[Config]]] = {}
    for base in group.__mro__:
        for name, options in vars(base).get("choices", {}).items():
            found.setdefault(name, options)
    return found


def chosen_class(group: type[Config], values: Mapping[str, Any]) -> type[Any]:
    """The class of exactly the settings that `values` choose in `group`."""
    if not issubclass(group, ChoiceConfig) or group.composed:
        return group
    parts: list[type[Config]] = [group]
    made: set[str] = set()
    while pending := [
        (name, options) for part in parts for name, options in choices_of(part).items() if name not in made
    ]:
        name, options = pending[0]
        made.add(name)
        field = next(part.model_fields[name] for part in parts if name in part.model_fields)
        option = _option(options, values.get(name, field.default))
        if option is None or option in parts:
            continue
        if issubclass(option, parts[0]):
            parts[0] = option
        else:
            parts.append(option)
    return _compose(*parts)


def owners(group: type[Config], key: str) -> list[Route]:
    """The choices that lead to the setting `key`; none where the group itself has it, or nobody."""
    if key in group.model_fields:
        return []
    return [path for path, option in all_options(group) if key in own_fields(option)]


def all_options(group: type[Config], above: Route = ()) -> Iterator[tuple[Route, type[Config]]]:
    """Every option of every choice, those of options included, each with the choices that lead to it."""
    made = {name for name, _ in above}
    for name, options in choices_of(group).items():
        for value, option in options.items() if name not in made else ():
            path = (*above, (name, value))
            yield path, option
            siblings = tuple((other, None) for other in choices_of(group))
            yield from (
                (inner[len(siblings) :], found) for inner, found in all_options(option, (*siblings, *path))
            )


def own_fields(option: type[Config]) -> set[str]:
    """The settings of an option that are not those of the group that it is a subclass of."""
    group = _group_of(option)
    return option.model_fields.keys() - (set() if group is option else group.model_fields.keys())


def _group_of(option: type[Config]) -> type[Config]:
    """The base that lists this class among its options, or the class itself."""
    for base in option.__mro__[1:]:
        for options in vars(base).get("choices", {}).values():
            if any(issubclass(option, one) and issubclass(one, base) for one in options.values()):
                return base
    return option


def explain_foreign(
    group: type[Config], values: Mapping[str, Any], key: str, spell: Callable[[str], str]
) -> tuple[str, str]:
    """Why `key` is no setting of what `values` choose although an option has it, and the way out."""
    chosen = chosen_class(group, values).model_fields
    unmet = [
        [(name, value) for name, value in path if not is_met(name, value, values, chosen)]
        for path in sorted(owners(group, key), key=len, reverse=True)
    ]
    fewest = min(map(len, unmet))
    name, value = next(path[0] for path in unmet if len(path) == fewest)
    if value is GIVEN:
        return f"it belongs to {spell(name)}, which is not set", f"set {spell(name)} as well, or remove it"
    if value is ABSENT:
        return f"{spell(name)} is set, which rules it out", "keep one of the two"
    have = list(
        dict.fromkeys(str(path[0][1]) for path in unmet if len(path) == fewest and path[0][0] == name)
    )
    choice = f"one of {', '.join(have)}" if len(have) > 1 else have[0]
    return (
        f"it belongs to {name} {' and '.join(have)}, and the {name} is"
        f" {values.get(name, chosen[name].default)}",
        f"choose {choice}, or remove it",
    )


def is_met(name: str, value: Any, values: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    """Whether `values`, of a class with the fields `chosen`, make this choice."""
    if name not in chosen:
        return False
    given = values.get(name, chosen[name].default)
    return _presence(given) is value if isinstance(value, Presence) else given == value


def _presence(value: Any) -> Presence:
    return ABSENT if value in (None, False, 0, "", (), []) else GIVEN


def _option(options: Mapping[Any, type[Config]], value: Any) -> type[Config] | None:
    if GIVEN in options or ABSENT in options:
        return options.get(_presence(value))
    return options.get(value) if isinstance(value, str | int | float) else None


@functools.cache
def _compose(first: type[Config], *rest: type[Config]) -> type[Config]:
    namespace = {"__module__": first.__module__, "__doc__": first.__doc__, "composed": True}
    return cast(
        type[Config],
        types.new_class(first.__name__, (first, *rest), exec_body=lambda body: body.update(namespace)),
    )


def _add_options(group: type[Config], schema: dict[str, Any], handler: GetJsonSchemaHandler) -> None:
    """Every option's settings as properties, and conditions under which a choice lacks them."""
    properties = schema.setdefault("properties", {})
    by_choice: dict[str, dict[Any, set[str]]] = {}
    for path, option in all_options(group):
        described = handler.resolve_ref_schema(handler(option.__pydantic_core_schema__))["properties"]
        own = own_fields(option)
        for key in sorted(own, key=list(described).index):
            if properties.setdefault(key, described[key]) != described[key]:
                properties[key] = {
                    name: value for name, value in properties[key].items() if name != "default"
                }
        for name, value in path:
            by_choice.setdefault(name, {}).setdefault(value, set()).update(own)
    conditions = []
    for name, options in by_choice.items():
        presence = any(isinstance(value, Presence) for value in options)
        for value in (GIVEN, ABSENT) if presence else properties[name].get("enum", list(options)):
            if lacking := set().union(*options.values()) - options.get(value, set()):
                without = {"properties": dict.fromkeys(sorted(lacking), False)}
                conditions.append({"if": _condition(name, value, properties[name]), "then": without})
    if conditions:
        schema["allOf"] = conditions


def _condition(name: str, value: Any, described: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, Presence):
        return {"required": [name]} if value is GIVEN else {"not": {"required": [name]}}
    required = {} if described.get("default") == value else {"required": [name]}
    return {"properties": {name: {"const": value}}} | required
