"""Settings: frozen pydantic models in which a typo cannot hide.

An unknown key, at any depth, is an error that names the nearest known one. Every instance also remembers
which of its fields were read, so that a key the user set and nothing looked at (a decay fraction under a
cosine schedule, say) can be reported by `unread` before any work is done.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from parakit.common.errors import UserError


class Config(BaseModel):
    """A group of settings. Frozen, no unknown keys, and it knows which fields were read."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())
    _read: set[str] = PrivateAttr(default_factory=set)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name[0] != "_" and name in type(self).__pydantic_fields__:
            private = super().__getattribute__("__pydantic_private__")
            if private:  # absent while pydantic is still building the instance
                private["_read"].add(name)
        return value

    def __eq__(self, other: object) -> bool:
        """Equal values; what was read of them plays no part."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), config_digest(self)))

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], where: str = "settings") -> Self:
        """Validate `mapping`; raises `UserError` naming the key's path, the fault, and for an unknown key
        the nearest known one.
        """
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            raise _explain(cls, error, where) from None

    def replace(self, **changes: Any) -> Self:
        """A validated copy with `changes`; what the user set stays marked as set."""
        values = {name: self.__dict__[name] for name in self.model_fields_set} | changes
        return type(self).parse(
            {k: v.model_dump(exclude_unset=True) if isinstance(v, Config) else v for k, v in values.items()}
        )


def closest_match(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None when none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unread(config: Config, prefix: str = "") -> list[str]:
    """Dotted paths of the keys that were set explicitly and never read since."""
    paths = []
    read = config.__pydantic_private__["_read"] if config.__pydantic_private__ else set()
    for name in sorted(config.model_fields_set):
        value = config.__dict__[name]
        if name not in read:
            paths.append(prefix + name)
        elif isinstance(value, Config):
            paths += unread(value, f"{prefix}{name}.")
    return paths


def config_digest(config: Config | Mapping[str, Any]) -> str:
    """sha256 (hex) of the settings' values, independent of key order and of how they were written down."""
    values = config.model_dump(mode="json") if isinstance(config, Config) else config
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping. Duplicate keys, and anything but a mapping, are errors that name the line."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such recipe file",
            "check the path, or run `parakit build` alone for the built-in recipe",
        )
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_strict_loader())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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


def _strict_loader() -> Any:
    """A safe YAML loader that refuses duplicate keys (plain YAML keeps the last one in silence)."""
    import yaml

    class StrictLoader(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, f"a key must be a word (line {line})")
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} stands twice (line {line})"
                )
            seen.add(key_node.value)
        return loader.construct_mapping(node, deep=True)

    StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return StrictLoader


def _explain(cls: type[Config], error: ValidationError, where: str) -> UserError:
    """Turn pydantic's report into one message: every fault on its line, with the way out."""
    lines, hints = [], []
    for fault in error.errors():
        loc = fault["loc"]
        path = ".".join(str(part) for part in loc)
        groups = _groups_at(cls, loc[:-1])
        known = {name: field for group in groups for name, field in group.__pydantic_fields__.items()}
        if fault["type"] == "extra_forbidden":
            close = closest_match(str(loc[-1]), sorted(known))
            lines.append(f"{where}: unknown key `{path}`")
            hints.append(
                f"did you mean `{close}`?" if close else f"known keys here: {', '.join(sorted(known))}"
            )
            continue
        told = fault["msg"].removeprefix("Value error, ")
        value = repr(fault.get("input"))
        if isinstance(fault.get("input"), Mapping):  # a whole group: its keys are named in the message
            lines.append(f"{where}: `{path}`: {told}" if path else f"{where}: {told}")
        else:
            lines.append(
                f"{where}: `{path}`: {told} (got {value if len(value) < 80 else value[:77] + '...'})"
            )
        field = known.get(str(loc[-1])) if loc else None
        if field is not None and field.description:
            hints.append(f"`{path}`: {field.description}")
    return UserError("\n".join(lines), "; ".join(hints))


def _groups_at(cls: type[Config], loc: tuple[Any, ...]) -> list[type[Config]]:
    """The settings groups that `loc` (a pydantic error location) leads to."""
    groups = [cls]
    for part in loc:
        following = []
        for group in groups:
            field = group.__pydantic_fields__.get(part) if isinstance(part, str) else None
            following += list(_groups_in(field.annotation)) if field else [group]
        groups = following
    return groups


def _groups_in(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _groups_in(argument)
