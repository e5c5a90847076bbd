"""Jinja's filters for `TracedText`: those that would lose the sources of its characters, written again.

`template_sandbox` compares every rendering with that of jinja's own filters. A filter that is not here (`wordwrap`,
`truncate`) gives text of unknown source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .traced_text import (
    TracedMarkup,
    TracedText,
    escaped,
    literal,
    mapped_sources,
    printed,
    traced,
    with_leaves,
)


def traced_filters(jinja: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """By name; `jinja` are its own filters."""
    from jinja2.filters import make_attrgetter
    from jinja2.utils import pass_environment

    @pass_environment
    def join(environment: Any, value: Any, d: str = "", attribute: Any = None) -> str:
        items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
        return traced(d).join(map(printed, items))

    def title(value: Any) -> str:
        text = traced(printed(value))
        return TracedText.of(*mapped_sources(jinja["title"](text), text.sources, ()))

    return {
        "join": join,
        "title": title,
        "trim": lambda value, chars=None: traced(printed(value)).strip(chars),
        "indent": _indent,
        "tojson": _to_json,
        "string": lambda value: value if isinstance(value, str) else printed(value),
        "safe": _safe,
        "escape": _escape,
        "e": _escape,
        "forceescape": lambda value: _escape(str(value)),
    }


def _safe(value: Any) -> TracedMarkup:
    text = traced(printed(value))
    return TracedMarkup.of(text, text.sources)


def _escape(value: Any) -> TracedText:
    return escaped(value if isinstance(value, str) else printed(value))


def _indent(s: str, width: Any = 4, first: bool = False, blank: bool = False) -> TracedText:
    by = literal(width if isinstance(width, str) else " " * width)
    written = [
        line if (number == 0 and not first) or not (line or blank or number == 0) else by + line
        for number, line in enumerate((traced(s) + "\n").splitlines())
    ]
    return literal("\n").join(written)


def _to_json(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> TracedText:
    def dump(value: Any) -> str:
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    return with_leaves(dump, x, lambda text: json.dumps(text, ensure_ascii=ensure_ascii), sort_keys)
