"""Command-line arguments from settings classes: a flag for each field, those of the chosen options included.

tyro parses a flat mirror of the classes and prints its help; the settings validate themselves, so that a mistake reads
the same in a recipe and on the command line. Below the help stand the settings of the choices that were not made.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from pydantic.fields import FieldInfo

from parakit.common.choices import (
    ABSENT,
    GIVEN,
    all_options,
    chosen_class,
    explain_foreign,
    is_met,
    own_fields,
    owners,
)
from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.common.yaml_reading import YamlFault, parse_yaml

Command = TypeVar("Command", bound=Config)
Settings = TypeVar("Settings", bound=Config)


def parse_command(command: type[Command], argv: Sequence[str], prog: str) -> Command:
    """The arguments of a command without further settings."""
    return parse_arguments(command, Config, argv, prog)[0]


def parse_arguments(
    command: type[Command],
    settings: type[Settings],
    argv: Sequence[str],
    prog: str,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[Command, Settings]:
    """The command's own arguments, and the settings among them. `defaults` replace the classes' own."""
    defaults = defaults or {}
    hints = _hints(command) | _hints(settings)
    for option in (option for _, option in all_options(settings)):
        hints = _hints(option) | hints
    argv = merge_repeated_flags(list(argv), [_flag(name) for name, hint in hints.items() if _is_list(hint)])
    given = dict(_given(argv, {_outer_name(name, hint): name for name, hint in hints.items()}))
    chosen: type[Config] = chosen_class(settings, {**defaults, **given})
    for name in given:
        if name not in chosen.model_fields and name not in command.model_fields and owners(settings, name):
            reason, hint = explain_foreign(settings, {**defaults, **given}, name, _flag)
            raise UserError(f"{prog}: {_flag(name)} is set but has no effect: {reason}", hint)
    try:
        values = tyro.cli(_mirror(command, settings, chosen, defaults), args=argv, prog=prog)
    except SystemExit:
        if {"-h", "--help"} & set(argv):
            sys.stdout.write(_describe_other_choices(settings, chosen, {**defaults, **given}))
        raise
    own = {name for name in command.model_fields if name in given or _is_positional(hints[name])}
    rest = {name: getattr(values, name) for name in given if name in chosen.model_fields}
    return (
        command.parse({name: getattr(values, name) for name in own}, prog, flags=True),
        settings.parse({**defaults, **rest}, prog, flags=True),
    )


def merge_repeated_flags(argv: list[str], flags: Collection[str]) -> list[str]:
    """`--set A --set B` as `--set A B`: given twice, a flag that takes several values keeps them all."""
    rest: list[str] = []
    values: dict[str, list[str]] = {}
    target = rest
    for word in argv:
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if flag in flags:
            target = values.setdefault(flag, [])
            target += [value] if equals else []
        else:
            target = rest if word.startswith("--") else target
            target.append(word)
    return rest + [word for flag, given in values.items() for word in (flag, *given)]


def _mirror(
    command: type[Config], settings: type[Config], chosen: type[Config], defaults: Mapping[str, Any]
) -> type[Any]:
    """A dataclass with a field for each argument, for tyro: it must not validate what was not given."""
    fields: list[tuple[str, Any, Any]] = []
    for group in (command, chosen):
        hints = _hints(group)
        for name, field in group.model_fields.items():
            if name not in {known for known, _, _ in fields}:
                own = "" if field.default_factory else field.default  # of a mapping, which is text here
                default = dataclasses.MISSING if field.is_required() else defaults.get(name, own)
                general = settings.model_fields.get(name, field)
                description = field.description or general.description or ""
                choices = _hints(settings)[name] if name in settings.choices else hints[name]
                hint = _argument(hints[name], _metavar(name, choices), default, description)
                fields.append((name, hint, dataclasses.field(default=default)))
    return dataclasses.make_dataclass(
        command.__name__, fields, kw_only=True, namespace={"__doc__": command.__doc__}
    )


def _argument(hint: Any, metavar: str | None, default: Any, description: str) -> Any:
    """The type of an argument, with what its help shows."""
    is_required = default is dataclasses.MISSING
    if metavar and not is_required and _is_positional(hint):
        metavar = f"[{metavar}]"
    default_text = "(required)" if is_required else "" if _is_unset(default) else None
    shown = tyro.conf.arg(help=description, metavar=metavar, help_behavior_hint=default_text)
    return Annotated[(hint, shown, *([tyro.conf.FlagCreatePairsOff] if default is False else []))]


def _is_unset(default: Any) -> bool:
    """Whether a default says nothing in a help page."""
    return default is None or default is False or default in ((), "")


def _metavar(name: str, hint: Any) -> str | None:
    """The placeholder of a value: its type, its choices, or the argument's name where it is text."""
    if get_origin(hint) is Annotated:
        given = [marker.metavar for marker in get_args(hint)[1:] if getattr(marker, "metavar", None)]
        return given[0] if given else _metavar(name, get_args(hint)[0])
    if get_origin(hint) is tuple:
        inner = [_metavar(name, each) or "" for each in get_args(hint) if each is not Ellipsis]
        return " ".join(inner) + (" ..." if Ellipsis in get_args(hint) else "")
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    if NoneType in get_args(hint):
        (inner_hint,) = (each for each in get_args(hint) if each is not NoneType)
        return "{True,False}" if inner_hint is bool else _metavar(name, inner_hint)
    return {int: "INT", float: "FLOAT", bool: None}.get(hint, name.upper())


def _describe_other_choices(settings: type[Config], chosen: type[Config], given: Mapping[str, Any]) -> str:
    """The settings of options that are not chosen, as plain text."""
    known = chosen.model_fields
    groups: dict[Any, list[Any]] = {}
    for path, option in all_options(settings):
        fields = {name: field for name, field in option.model_fields.items() if name in own_fields(option)}
        fields = {
            name: field
            for name, field in fields.items()
            if name not in known or known[name].description != field.description
        }
        unmet = [(name, value) for name, value in path if not is_met(name, value, given, known)]
        if fields and unmet:
            *above, (name, value) = unmet
            lines = tuple(_describe(name, field) for name, field in fields.items())
            if all(key[2] != lines or len(key[0]) <= len(above) for key in groups):
                values = groups.setdefault((tuple(above), name, lines), [])
                values += [value] if value not in values else []
    blocks = []
    for (above, name, lines), values in groups.items():
        condition = ", ".join([*(_condition(one, [value]) for one, value in above), _condition(name, values)])
        blocks.append("\n".join([f"  {condition}", *lines]))
    return "\n\n".join(["Settings of other choices:", *blocks]) + "\n" if blocks else ""


def _describe(name: str, field: FieldInfo) -> str:
    default = "" if _is_unset(field.default) else f" (default: {field.default})"
    return textwrap.fill(
        f"{_flag(name):<23} {field.description or ''}{default}".rstrip(),
        max(shutil.get_terminal_size().columns, 60),
        initial_indent=" " * 4,
        subsequent_indent=" " * 28,
    )


def _condition(name: str, values: Sequence[Any]) -> str:
    if values == [GIVEN]:
        return f"with {_flag(name)}"
    return f"without {_flag(name)}" if values == [ABSENT] else f"{_flag(name)} {', '.join(map(str, values))}"


def _given(argv: Sequence[str], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The flags of a command line by their fields' names, with the first word of each one's value."""
    for word, following in zip(argv, [*argv[1:], ""], strict=False):  # without arguments nothing follows
        if word.startswith("--"):
            flag, equals, value = word[2:].partition("=")
            flag = flag.replace("-", "_")
            name = names.get(flag) or names.get(flag.removeprefix("no_"), flag)
            yield name, value if equals else following


def _hints(group: type[Config]) -> dict[str, Any]:
    """The types of a group's arguments; a mapping is given as JSON."""
    hints = get_type_hints(group, include_extras=True)
    as_json = Annotated[str, tyro.conf.arg(metavar="JSON")]
    return {name: as_json if get_origin(hints[name]) is dict else hints[name] for name in group.model_fields}


def _outer_name(name: str, hint: Any) -> str:
    """The name on the command line, where tyro has another one."""
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((one.name for one in metadata if getattr(one, "name", None)), name)


def _is_positional(hint: Any) -> bool:
    return get_origin(hint) is Annotated and tyro.conf.Positional in get_args(hint)


def _is_list(hint: Any) -> bool:
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_origin(inner) is tuple


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def parse_setting(text: str) -> tuple[str, Any]:
    """A word of --set: the dotted key of a recipe, and its value as in YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text!r} is not KEY=VALUE", "write for example --set pretrain.max_steps=100")
    try:
        return key, parse_yaml(value)
    except YamlFault:
        raise UserError(
            f"--set {text!r}: {value!r} is not readable as a YAML value", f"quote it: --set '{key}=\"...\"'"
        ) from None
