"""YAML 1.2, so that a person gets what is written: 010 is ten, 1e-4 a number, and no, on and 1:30 are words.

PyYAML parses the text, and the plain words get their types by the core schema of YAML 1.2 (section 10.3.2) instead of
the rules of 1.1. Keys are words, whatever they look like, and occur once in their mapping; of the extensions of 1.1 only
the merge key `<<` is read. Size, depth and what aliases expand to are bounded. Tags other than the schema's are refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from parakit.common.json_reading import is_text

MAX_BYTES, MAX_NODES = 4_000_000, 200_000
_TAG = "tag:yaml.org,2002:"
# type -> the plain words that it has, and their first characters ("" stands for nothing at all)
_WORDS: dict[str, tuple[str, list[str]]] = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


class YamlFault(ValueError):
    """A text is no YAML, or has a key twice, or expands to too much; the message names the line."""


def parse_yaml(text: str) -> Any:
    """The value that a YAML text has; raises `YamlFault`."""
    import yaml

    if len(text) > MAX_BYTES:
        raise YamlFault(f"{len(text)} characters; {MAX_BYTES} is the limit")
    loader = _loader()(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise YamlFault(str(error)) from None
    except RecursionError:
        raise YamlFault("it is nested too deeply") from None
    finally:
        loader.dispose()


@lru_cache(maxsize=1)
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012
        yaml_constructors: dict[str, Any] = {}  # noqa: RUF012

    for name, (pattern, first) in _WORDS.items():
        Loader.add_implicit_resolver(_TAG + name, re.compile(f"(?:{pattern})\\Z"), first)
    for name, construct in (
        *(("null", _null), ("bool", _bool), ("int", _int), ("float", _float), ("str", _string)),
        *(("seq", lambda loader, node: loader.construct_sequence(node, deep=True)), ("map", _mapping)),
    ):
        Loader.add_constructor(_TAG + name, construct)
    Loader.add_constructor(None, _other_tag)
    return Loader


def _null(loader: Any, node: Any) -> None:
    _word(loader, node, "null")


def _bool(loader: Any, node: Any) -> bool:
    return _word(loader, node, "bool").lower() == "true"


def _int(loader: Any, node: Any) -> int:
    text = _word(loader, node, "int")
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    if len(text) > 300:
        raise _fault(node, f"a number of {len(text)} digits")
    return int(text[2:] if base != 10 else text, base)


def _float(loader: Any, node: Any) -> float:
    text = _word(loader, node, "float").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _string(loader: Any, node: Any) -> str:
    text: str = loader.construct_scalar(node)
    if not is_text(text):
        raise _fault(node, "half a character, which is no text")
    return text


def _word(loader: Any, node: Any, name: str) -> str:
    """A plain word, also where an explicit tag (`!!int`) claims that it is one of this type."""
    text: str = loader.construct_scalar(node)
    if re.fullmatch(_WORDS[name][0], text) is None:
        raise _fault(node, f"{text!r} is no {name}")
    return text


def _mapping(loader: Any, node: Any) -> dict[str, Any]:
    import yaml

    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _fault(key, "a key must be a word")
        if key.tag == f"{_TAG}merge":
            continue
        if key.value in seen:
            raise _fault(key, f"key {key.value!r} occurs twice")
        seen.add(key.value)
        key.tag = f"{_TAG}str"
    mapping: dict[str, Any] = loader.construct_mapping(node, deep=True)
    return mapping


def _other_tag(loader: Any, node: Any) -> None:
    raise _fault(node, f"the tag {node.tag.replace(_TAG, '!!')!r} is not read")


def _fault(node: Any, what: str) -> YamlFault:
    return YamlFault(f"{what} (line {node.start_mark.line + 1})")


def _check_size(root: Any) -> None:
    """Refuse what its aliases make circular or too large."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) in sizes:
            if not sizes[id(node)]:
                raise _fault(node, "an alias inside the value that it stands for")
            return sizes[id(node)]
        sizes[id(node)] = 0
        total = 1
        if isinstance(node.value, list):
            for child in node.value:
                total += sum(map(size, child)) if isinstance(child, tuple) else size(child)
        if total > MAX_NODES:
            raise _fault(node, f"more than {MAX_NODES} values")
        sizes[id(node)] = total
        return total

    size(root)
