"""Does what a message says to do help? Reads the settings that a `UserError` names and applies them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from parakit.common.errors import UserError

Settings = Mapping[str, Any]
_VALUE = r"(?:to |at |is |= ?|: ?)?(-?\d[\d,]*(?:\.\d+)?|\w+)"


def ways_out(hint: str, known: Iterable[str]) -> list[dict[str, Any]]:
    """The settings that a hint names: one entry for each way out, with all settings that belong together.

    "lower seq_len to 8 and batch_tokens to 16, or set too_long: drop" are two. A way that names no setting of `known` with a
    value ("add text") is none.
    """
    names = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
    setting = re.compile(
        rf"(?<![\w-])`?(?:--)?({names})`? {_VALUE}|(?<![\w-])`?(?:--)?({names})`?[:=] ?{_VALUE}"
    )
    if "--" in hint:
        hint = hint.replace("--", "").replace("-", "_")
    ways = []
    for text in re.split(r", or |; |\bor (?=set |lower |raise )", hint):
        found = {}
        for match in setting.finditer(text):
            name, value = (match[1], match[2]) if match[1] else (match[3], match[4])
            found[name] = _parsed(value)
        if found:
            ways.append(found)
    return ways


def assert_advice_helps(
    call: Callable[..., object], settings: Settings, known: Iterable[str], then: str | None = None
) -> UserError:
    """`call(**settings)` fails, the message names at least one setting, and each way out that it names makes the call
    succeed. `then`: of the error that may come instead, which must be of something else.
    """
    with pytest.raises(UserError) as caught:
        call(**settings)
    ways = ways_out(caught.value.hint, known)
    assert ways, f"no setting with a value is named: {caught.value}"
    for way in ways:
        try:
            call(**{**settings, **way})
        except UserError as error:
            if then is None or then not in error.message:
                pytest.fail(f"{caught.value}\n{way} does not help:\n{error}")
    return caught.value


def _parsed(value: str) -> Any:
    text = value.replace(",", "")
    return (
        int(text)
        if re.fullmatch(r"-?\d+", text)
        else float(text)
        if re.fullmatch(r"-?\d+\.\d+", text)
        else value
    )
