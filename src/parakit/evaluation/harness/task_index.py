"""Where each of lm-eval's tasks, groups and tags is defined: an index of its 14,000 YAML files.

lm-eval's own index parses them all whenever a task is loaded, which takes 15 seconds of one core. Here the few keys that
name a file's task are read as text, YAML parses only what is written in another way, and the result is kept in the cache
folder until another version is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from parakit.common.errors import UserError
from parakit.common.files import cache_folder, read_json, write_json_atomic
from parakit.common.settings import closest_match

EXTRA = "pip install 'parakit[eval]'"
DefinitionKind = Literal["task", "python_task", "group", "tag"]
_KEYS = re.compile(r"""^["']?(task|group|tag|class|include)["']?[ \t]*:(.*)$""", re.MULTILINE)
_PLAIN = re.compile(r"""[ \t]*(["']?)([\w./+-]+)\1[ \t]*(?:#.*)?""")
_MEANINGS = frozenset({"null", "true", "false", "yes", "no", "on", "off"})  # in YAML
_FORMAT = 1


@dataclass(frozen=True)
class Definition:
    """Of a name: the file of a task or group, relative to lm-eval's tasks; of a tag its tasks."""

    kind: DefinitionKind
    path: str | None = None
    members: tuple[str, ...] = ()


def require_harness() -> str:
    """The version of lm-eval; `UserError` where it is not installed. Does not import it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise UserError("the tasks of lm-eval need its package, which is not installed", EXTRA) from None


def load_index(tasks: Path, version: str) -> dict[str, Definition]:
    """The index of the folder `tasks` of this version of lm-eval, from the cache or made."""
    path = cache_folder() / f"lm-eval-{version}-tasks.json"
    try:
        kept = read_json(path) if path.is_file() else {}
    except UserError:  # damaged: made again
        kept = {}
    if kept.get("format") == _FORMAT and kept.get("tasks") == str(tasks):
        names: dict[str, list[Any]] = kept["names"]
        return {
            name: Definition(kind, where, tuple(members)) for name, (kind, where, members) in names.items()
        }
    index = make_index(tasks)
    plain = {name: [one.kind, one.path, one.members] for name, one in index.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(path, {"format": _FORMAT, "tasks": str(tasks), "names": plain})
    return index


def make_index(tasks: Path) -> dict[str, Definition]:
    """Read every YAML file below `tasks`, in the order in which lm-eval does: the first definition of a name counts."""
    index: dict[str, Definition] = {}
    tagged: dict[str, list[str]] = {}
    keys_of: dict[Path, dict[str, Any]] = {}
    for path in sorted(tasks.glob("**/*.yaml"), key=lambda path: path.as_posix()):
        try:
            keys = _merged(path, keys_of)
        except (OSError, ValueError):
            continue  # as lm-eval does
        kind: DefinitionKind = "python_task" if "class" in keys else "group" if "group" in keys else "task"
        name = keys.get("group" if kind == "group" else "task")
        if not isinstance(name, str) or name in index:
            continue
        index[name] = Definition(kind, path.relative_to(tasks).as_posix())
        if kind != "group":
            for tag in _listed(keys.get("tag")):
                tagged.setdefault(tag, []).append(name)
    for tag, members in tagged.items():
        index.setdefault(tag, Definition("tag", members=tuple(sorted(members))))
    return index


def find(index: dict[str, Definition], name: str, others: Iterable[str] = ()) -> Definition:
    """The definition of a name; `UserError` naming the closest one, of `others` too."""
    if name not in index:
        close = closest_match(name, [*others, *index])
        hint = f"did you mean {close}? " if close else ""
        raise UserError(
            f"there is no task {name}",
            hint + "parakit evaluate --tasks takes Parakit's measures and lm-eval's tasks",
        )
    return index[name]


def _merged(path: Path, keys_of: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """The naming keys of a file and, where it lacks them, of the files that it includes."""
    if path in keys_of:
        return keys_of[path]
    keys_of[path] = {}  # of a file that includes itself
    keys = _naming_keys(path)
    merged: dict[str, Any] = {}
    for included in _listed(keys.pop("include", None)):
        merged |= _merged((path.parent / included).resolve(), keys_of)
    keys_of[path] = merged | keys
    return keys_of[path]


def _naming_keys(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    keys: dict[str, Any] = {}
    for key, value in _KEYS.findall(text):
        plain = _PLAIN.fullmatch(value.rstrip("\r"))
        if key == "class":
            keys[key] = value
        elif plain is None or plain[2].lower() in _MEANINGS or plain[2][0].isdigit():
            return _parsed(text)
        else:
            keys[key] = plain[2]
    return keys


def _parsed(text: str) -> dict[str, Any]:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    Loader.add_constructor("!function", lambda loader, node: "")
    try:
        found = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return {key: found[key] for key in ("task", "group", "tag", "class", "include") if key in found}


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
