"""Reading JSON that may be damaged or hostile: bounded in size, number of values and depth, and checked against a shape.

Strict JSON only: NaN, Infinity, numbers beyond a float's range and half characters (lone surrogates) are refused, since
whatever computes with them or prints them would fail far from the file. A shape is a type as pydantic reads it
(`dict[str, int]`, a model); the error names the file, the key and its value.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from parakit.common.errors import CorruptArtifact, UserError

MAX_JSON_BYTES, MAX_VALUES, MAX_DEPTH = 64_000_000, 4_000_000, 100
DAMAGED = "the file is damaged: restore it, or rerun the command that wrote it"
# Half of a pair of surrogates; each alternative begins with fixed bytes, which `re` finds much faster than a class.
_HALF = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|\\u(?<!\\u[dD][89abAB]..\\u)[dD][c-fC-F]")
_DIGITS_TO_0 = bytes.maketrans(b"123456789", b"0" * 9)
_OTHER_BYTES = bytes(set(range(256)) - set(b"[]{}"))
_MAX_SHOWN = 80
_LARGEST, _MAX_DIGITS = 1e308, 300


def parse_json(
    data: bytes, where: str | Path, shape: Any = Any, *, max_values: int = MAX_VALUES, hint: str = DAMAGED
) -> Any:
    """The JSON in `data`; `CorruptArtifact` says what is wrong in `where`, with `hint`."""
    n_values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if n_values > max_values:
        raise UserError(f"{where}: holds {n_values} values of JSON; {max_values} is the limit", hint)
    beyond: list[str] = []  # numbers that a float cannot hold

    def number(text: str) -> float:
        if not -_LARGEST <= float(text) <= _LARGEST:
            beyond.append(text)
        return float(text)

    try:
        value = json.loads(data.decode("utf-8"), parse_constant=number, parse_float=number)
    except (ValueError, RecursionError) as error:
        raise CorruptArtifact(f"{where}: not readable as JSON: {error}", hint) from None
    is_long = b"0" * _MAX_DIGITS in data.translate(_DIGITS_TO_0)
    if beyond or is_long or _HALF.search(data) or _depth(data) > MAX_DEPTH:
        _check_values(value, where, hint)
    return check_shape(value, shape, where, hint)


def read_json_bytes(path: Path, max_bytes: int = MAX_JSON_BYTES, hint: str = DAMAGED) -> bytes:
    """The bytes of a JSON file of limited size; `UserError` where there is no such file."""
    try:
        if (n_bytes := path.stat().st_size) > max_bytes:
            raise UserError(f"{path}: has {n_bytes} bytes; {max_bytes} is the limit for such a file", hint)
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "check the path") from None


def check_shape(value: Any, shape: Any, where: str | Path, hint: str = DAMAGED) -> Any:
    """`value` itself, if it has the shape; `CorruptArtifact` names the first key that has not, and its value."""
    if shape is Any:
        return value
    try:
        _adapter(shape).validate_python(value, strict=True)
    except (ValidationError, RecursionError) as error:
        fault: Any = error.errors()[0] if isinstance(error, ValidationError) else {}
        loc = [part for part in fault.get("loc", ()) if not isinstance(part, str) or "[" not in part]
        key = ".".join(map(str, loc))
        if fault.get("type") == "missing":
            raise CorruptArtifact(f"{where}: lacks `{key}`", hint) from None
        found = f"`{key}` is {shown(fault.get('input'))}" if key else f"holds {shown(value)}"
        reason = fault.get("msg", "nested too deeply")
        raise CorruptArtifact(f"{where}: {found}: {reason[:1].lower()}{reason[1:]}", hint) from None
    return value


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    if isinstance(value, dict | list) and value:
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


@lru_cache(maxsize=64)
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def _depth(data: bytes) -> int:
    """At least the depth of nesting; brackets inside strings count too."""
    import numpy as np

    brackets = np.frombuffer(data.translate(None, _OTHER_BYTES), np.uint8)
    return int(np.cumsum(np.where((brackets == 0x5B) | (brackets == 0x7B), 1, -1)).max(initial=0))


def _check_values(value: Any, where: str | Path, hint: str) -> None:
    """Refuse what strict JSON cannot say, or what is nested too deeply, by its key."""
    pending: list[tuple[Any, tuple[Any, ...]]] = [(value, ())]
    while pending:
        one, path = pending.pop()
        fault = ""
        if len(path) > MAX_DEPTH:
            raise CorruptArtifact(f"{where}: is nested more than {MAX_DEPTH} deep", hint)
        if isinstance(one, dict):
            pending += [(inner, (*path, key)) for key, inner in one.items()]
            pending += [(key, path) for key in one]
        elif isinstance(one, list):
            pending += [(inner, (*path, i)) for i, inner in enumerate(one)]
        elif isinstance(one, float) and not -_LARGEST <= one <= _LARGEST:
            fault = f"is {one}, which is no number of JSON"
        elif isinstance(one, int) and abs(one) >= 10**_MAX_DIGITS:
            fault = f"is a number of more than {_MAX_DIGITS} digits"
        elif isinstance(one, str) and not is_text(one):
            fault = f"is {shown(one)}, which is no text: half a character"
        if fault:
            raise CorruptArtifact(f"{where}: `{'.'.join(map(str, path))}` {fault}", hint)


def is_text(string: str) -> bool:
    """Whether a string has no half characters (lone surrogates), so that it can be written and printed."""
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True
