"""The encoding that a web page or an XML document declares at its beginning: taken where its bytes are not Unicode."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager

from parakit.data.config import TextConfig
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import open_input

_DECLARED = re.compile(
    rb"""<(?:\?xml[^>]{0,200}?encoding|meta[^>]{0,300}?charset)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""",
    re.IGNORECASE,
)
_HEAD = 2**12
_AS_BROWSERS = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254"}  # the WHATWG's table


@contextmanager
def with_declared_encoding(file: InputFile, config: TextConfig) -> Iterator[TextConfig]:
    """The settings with the declared encoding, where none is set and Python knows it."""
    if config.encoding is None:
        with open_input(file, config) as stream:
            name = declared_encoding(stream.read(_HEAD))
        config = config.replace(encoding=name) if name else config
    yield config


def declared_encoding(head: bytes) -> str | None:
    """Python's name of the encoding that a document declares; None where it does not, or names an unknown one."""
    if (match := _DECLARED.search(head)) is None:
        return None
    try:
        info = codecs.lookup(match[1].decode("ascii"))
    except (LookupError, ValueError):
        return None
    if not getattr(info, "_is_text_encoding", True) or info.name.startswith("utf"):
        return None
    return _AS_BROWSERS.get(info.name, info.name)
