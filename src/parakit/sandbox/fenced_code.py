"""The program in an answer that also has prose."""

from __future__ import annotations

import re

_FENCED = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "python3", "py")


def code_of(completion: str) -> str:
    """The program in a completion: its blocks fenced as Python, joined; else its first block fenced without a language;
    else all of it. A truncated block ends with the completion.
    """
    blocks = [(match[1].lower(), match[2]) for match in _FENCED.finditer(completion)]
    python_blocks = [code for language, code in blocks if language in _PYTHON]
    if python_blocks:
        return "\n".join(python_blocks)
    return next((code for language, code in blocks if not language), completion)
