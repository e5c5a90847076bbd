"""Settings: frozen pydantic models. An unknown key, at any depth, is an error that names the nearest known one.

Settings that only some choices have (a decay fraction under the schedule wsd) are in `choices.py`.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from parakit.common.errors import UserError
from parakit.common.yaml_reading import YamlFault, parse_yaml

Family = Literal["decoder", "encoder", "encoder-decoder"]  # of models, and of how their inputs are encoded


class Config(BaseModel):
    """A group of settings. Frozen, without unknown keys; its floats are finite."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )
    choices: "ClassVar[Choices]" = {}  # see choices.py

    def __hash__(self) -> int:
        return hash((type(self), config_digest(self)))

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], where: str = "settings", flags: bool = False) -> Self:
        """Validate `mapping`; raises `UserError` naming the key's path (as a command line's flag with `flags`), the
        fault, and for an unknown key the nearest known one, or the choice that has it.
        """
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            raise _explain(cls, error, where, mapping, flags) from None

    def replace(self, **changes: Any) -> Self:
        """A validated copy with `changes`; what the user set stays marked as set."""
        group = self._group()
        required = {
            name for name, field in group.model_fields.items() if field.is_required()
        }  # which option it is
        values = {name: self.__dict__[name] for name in self.model_fields_set | required} | changes
        return group.parse(  # type: ignore[return-value]
            {k: v.model_dump(exclude_unset=True) if isinstance(v, Config) else v for k, v in values.items()}
        )

    @classmethod
    def _group(cls) -> type["Config"]:
        return cls

    @classmethod
    def chosen_fields(cls, values: Mapping[str, Any]) -> dict[str, FieldInfo]:
        """The fields that a group with these values has."""
        return cls.model_fields

    @classmethod
    def every_field(cls) -> set[str]:
        """The fields that a group may have."""
        return set(cls.model_fields)

    @classmethod
    def explain_foreign(
        cls, values: Mapping[str, Any], key: str, spell: Callable[[str], str]
    ) -> tuple[str, str] | None:
        """Why the chosen fields lack `key` although others have it, and the way out; None where nobody has it."""
        return None


Choices = dict[
    str, dict[Any, type[Config]]
]  # a field, and by its value the class of the settings that go with it


def closest_match(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` misspells, shortens or spells out, or None. Names that have some words in common and
    differ in others mean different things: a `function_call` is no `function_response`, `max_x` is not `min_x`.
    """
    near = difflib.get_close_matches(name, list(known), n=5, cutoff=0.5)
    return next((one for one in near if _is_misspelling(name, one)), None)


def _is_misspelling(name: str, known: str) -> bool:
    """Whether each word of the shorter name is a word of the other, or like one."""
    shorter, longer = sorted((_words(name), _words(known)), key=len)
    if len(shorter) < len(longer) and _alike("".join(shorter), "".join(longer)):
        return True  # written as one word
    rest = list(longer)
    for word in shorter:
        like = next((one for one in rest if _alike(word, one) or _begins(word, one)), None)
        if like is None:
            return False
        rest.remove(like)
    return bool(shorter)


def _words(name: str) -> list[str]:
    parts = re.split(r"[\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name))
    return [part.casefold() for part in parts if part]


def _begins(some: str, other: str) -> bool:
    return some.startswith(other) or other.startswith(some)


def _alike(some: str, other: str) -> bool:
    """Whether one slip for every four letters makes one word of the other; in a short word another letter is no slip."""
    if some == other:
        return True
    n = max(len(some), len(other))
    if n < 4 and len(some) == len(other) and sorted(some) != sorted(other):
        return False  # bos and eos
    return _n_slips(some, other) <= max(1, n // 4)


def _n_slips(some: str, other: str) -> int:
    """Letters left out, added, replaced, or exchanged with the next one (Damerau 1964)."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(some, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and some[i - 2] == wanted:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def config_digest(config: Config | Mapping[str, Any]) -> str:
    """sha256 (hex) of the settings' values, independent of key order and of how they were written down."""
    values = config.model_dump(mode="json") if isinstance(config, Config) else config
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a mapping of YAML 1.2. Duplicate keys, and anything but a mapping, are errors that name the line."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such recipe file",
            "check the path, or run `parakit build` alone for the built-in recipe",
        )
    try:
        loaded = parse_yaml(path.read_text(encoding="utf-8"))
    except (YamlFault, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not readable as YAML: {error}",
            "YAML wants `key: value` lines with spaces, not tabs, for indentation",
        ) from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UserError(
            f"{path}: holds a {type(loaded).__name__}, not a mapping of settings",
            "start with lines such as `name: my-model`",
        )
    return loaded


def _explain(
    cls: type[Config], error: ValidationError, where: str, mapping: Mapping[str, Any], flags: bool
) -> UserError:
    """Turn pydantic's report into one message: every fault on its line, with the way out."""
    lines, hints = [], []
    for fault in error.errors():
        loc = tuple(part for part in fault["loc"] if part != "")  # the tag of a union of two kinds of values
        groups, values = _groups_at(cls, mapping, loc[:-1])
        path = _spelled(".".join(str(part) for part in loc), flags)
        if fault["type"] == "extra_forbidden":
            line, hint = _explain_unknown(groups, values, path, str(loc[-1]), flags)
        else:
            line, hint = _explain_value(groups, fault, path, flags)
        lines.append(f"{where}: {line}")
        hints += [hint] if hint else []
    return UserError("\n".join(lines), "; ".join(dict.fromkeys(hints)))


def _explain_unknown(
    groups: list[type[Config]], values: Mapping[str, Any], path: str, key: str, flags: bool
) -> tuple[str, str]:
    for group in groups:
        if foreign := group.explain_foreign(values, key, lambda name: _spelled(name, flags)):
            reason, hint = foreign
            return f"{path} is set but has no effect: {reason}", hint
    known = sorted({name for group in groups for name in group.chosen_fields(values)})
    others = {name for group in groups for name in group.every_field()}
    close = closest_match(key, sorted(others.union(known)))
    hint = f"did you mean {_spelled(close, flags)}?" if close else f"known keys here: {', '.join(known)}"
    return f"unknown key {path}", hint


def _explain_value(groups: list[type[Config]], fault: Any, path: str, flags: bool) -> tuple[str, str]:
    raised = fault.get("ctx", {}).get("error")
    message, hint = fault["msg"].removeprefix("Value error, "), ""
    if isinstance(raised, UserError):
        message, hint = (
            re.sub(r"`(\w+)`", lambda name: _spelled(name[1], flags), text)
            for text in (raised.message, raised.hint)
        )
    if not fault["loc"]:
        return message, hint
    known = {name: field for group in groups for name, field in group.model_fields.items()}
    field = known.get(str(fault["loc"][-1]))
    if field is not None and field.description:
        hint = "; ".join(filter(None, [hint, f"{path}: {field.description}"]))
    if isinstance(fault.get("input"), Mapping):  # a whole group: its keys are named in the message
        return f"{path}: {message}", hint
    value = repr(fault.get("input"))
    return f"{path}: {message} (got {value if len(value) < 80 else value[:77] + '...'})", hint


def _spelled(path: str, flags: bool) -> str:
    """A key as its reader writes it: in a file, or as a flag."""
    return f"--{path.replace('_', '-')}" if flags else f"`{path}`"


def _groups_at(
    cls: type[Config], mapping: Any, loc: tuple[Any, ...]
) -> tuple[list[type[Config]], Mapping[str, Any]]:
    """The settings groups that `loc` (a pydantic error location) leads to, and the values given there."""
    groups, values = [cls], mapping
    for part in loc:
        following = []
        for group in groups:
            fields = group.chosen_fields(values if isinstance(values, Mapping) else {})
            field = fields.get(part) if isinstance(part, str) else None
            following += list(_groups_in(field.annotation)) if field else [group]
        groups = following
        if (isinstance(values, Mapping) and part in values) or (
            isinstance(values, list | tuple) and isinstance(part, int)
        ):
            values = values[part]
    return groups, values if isinstance(values, Mapping) else {}


def _groups_in(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _groups_in(argument)
