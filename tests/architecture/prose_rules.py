"""Plain words in what users read: the pages, the help texts, the messages and the docstrings.

The words below stood for everything and are replaced by the field's terms. The primer writes stories, where people may say
and be told what they like; quoted code and quoted examples are left out.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from package import at, docstring_lines, nodes, package_of, python_files, tree

INSTEAD = {
    "told": "set, reported, printed",
    "said": "set, reported",
    "beside": "next to, with",
    "ours": "Parakit's",
    "theirs": "third-party",
    "anew": "again, rebuilt",
    "whoever": "the caller, the user",
    "stranger": "third-party, untrusted",
    "strangers": "third-party, untrusted",
    "stranger's": "third-party, untrusted",
    "leash": "KL penalty",
    "lesson": "training task, example",
    "lessons": "training tasks, examples",
    "gone on with": "resumed, continued",
    "goes on from": "resumes from, starts from",
    "on its way": "in transit",
    "the walls": "the isolation",
    "a house": "a package",
    "the house": "the package",
    "a life": "a pipeline",
    "whole life": "pipeline, all stages",
}
_WORD = re.compile(r"(?<![\w-])(" + "|".join(sorted(INSTEAD, key=len, reverse=True)) + r")(?![\w-])", re.I)
_CODE = re.compile(r"```.*?```|`[^`\n]*`|\"[^\"\n]*\"|^ {4,}\S[^\n]*$", re.M | re.S)
WITHOUT = {"primer"}


def private_prose_in_pages(pages: list[Path], root: Path) -> list[str]:
    """Words of `INSTEAD` in Markdown pages, outside code and quotations."""
    violations = []
    for page in pages:
        text = _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), page.read_text(encoding="utf-8"))
        for number, line in enumerate(text.splitlines(), 1):
            violations += [
                f"{page.relative_to(root)}:{number}: {found[0]!r}: write {INSTEAD[found[0].lower()]}"
                for found in _WORD.finditer(line)
            ]
    return violations


def private_prose_in_code(src: Path) -> list[str]:
    """Words of `INSTEAD` in docstrings, messages and other strings of `src`, outside quotations."""
    violations = []
    for path in python_files(src):
        if package_of(path, src) in WITHOUT:
            continue
        module = tree(path)
        docstrings = docstring_lines(module)
        for node in nodes(module):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = _CODE.sub(" ", node.value) if node.lineno in docstrings else node.value
                violations += [
                    f"{at(path, node, src)}: {found[0]!r}: write {INSTEAD[found[0].lower()]}"
                    for found in _WORD.finditer(text)
                    if " " in node.value.strip()
                ]
    return violations
