"""What is written about Parakit must be true: commands, flags, make targets and links in README and docs.

Commands are read out of fenced code blocks (lines that start with `parakit`, `$ parakit` or
`.venv/bin/parakit`, with continuations) and out of inline code that starts with `parakit `. A flag exists
when the verb's own help names it.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from package import IGNORED_FOLDERS

_FENCE = re.compile(r"^(?P<fence>```+|~~~+)[^\n]*\n(?P<body>.*?)^(?P=fence)\s*$", re.M | re.S)
_INLINE = re.compile(r"(?<!`)`((?:\.venv/bin/)?parakit [^`\n]+)`(?!`)")
_PROMPT = re.compile(r"^\s*(?:\$ )?(?:\.venv/bin/)?parakit(?=\s|$)")
_MAKE = re.compile(r"^\s*(?:\$ )?make ([a-z][a-z-]*)|`make ([a-z][a-z-]*)", re.M)
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)(?:#[^)]*)?\)")
PLACEHOLDER = re.compile(r"^[A-Z_.]+$|^\[|^…$|^\.\.\.$")


@dataclass(frozen=True)
class Command:
    """A `parakit` command as written: where, and its words after `parakit`."""

    where: str
    words: tuple[str, ...]

    @property
    def flags(self) -> list[str]:
        return [word.partition("=")[0] for word in self.words if re.match(r"^--?[a-zA-Z]", word)]


def documents(root: Path) -> list[Path]:
    """README, CONTRIBUTING and everything under docs/ (the log and the changelog tell of the past and are
    left out).
    """
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    return [page for page in pages if page.is_file() and page.name != "log.md"]


def commands(page: Path, root: Path) -> list[Command]:
    """Every parakit command that a page shows."""
    text = page.read_text(encoding="utf-8")
    found = []
    for block in _FENCE.finditer(text):
        body = re.sub(r"\\\n\s*", " ", block["body"])
        found += [(block.start(), line) for line in body.splitlines() if _PROMPT.match(line)]
    outside = _FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    found += [(match.start(), match[1]) for match in _INLINE.finditer(outside)]
    name = page.relative_to(root).as_posix()
    return [Command(f"{name}: {line.strip()}", _words(line)) for _, line in found]


def _words(line: str) -> tuple[str, ...]:
    line = _PROMPT.sub("", line)
    line = re.split(r"\s(?:[|>]|&&|2>)\s?", line)[0]
    line = re.sub(r"[\[\]]", " ", line)  # `parakit build [RECIPE | --text PATH ...]`
    return tuple(shlex.split(line, comments=True))


def wrong_commands(page: Path, root: Path, help_of: Callable[[tuple[str, ...]], str | None]) -> list[str]:
    """Commands whose verb or flag the command line does not know.

    `help_of(verb words)` returns the help text of a verb, or None when there is no such verb.
    """
    violations = []
    for command in commands(page, root):
        verb, unknown = _verb(command, help_of)
        if unknown is not None:
            violations.append(f"{command.where}: parakit has no verb {unknown!r}")
            continue
        known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w.-]*", help_of(verb) or "")) | {"--help", "-h"}
        known |= {flag.replace("_", "-") for flag in known}
        violations += [
            f"{command.where}: `parakit {' '.join(verb)}` has no flag {flag}"
            for flag in command.flags
            if flag.replace("_", "-") not in known
        ]
    return violations


def _verb(
    command: Command, help_of: Callable[[tuple[str, ...]], str | None]
) -> tuple[tuple[str, ...], str | None]:
    """The verb's words, and the first word that should be a verb but is none."""
    plain = list(itertools.takewhile(lambda word: not word.startswith("-"), command.words))
    if not plain:
        return (), None if set(command.flags) <= {"--help", "-h", "--version"} else ""
    verb: tuple[str, ...] = ()
    for word in plain[:2]:
        if verb and not re.fullmatch(r"[a-z][a-z-]*", word):
            break  # a path, a number, a quoted text: the verb's own argument
        if help_of((*verb, word)) is None:
            return verb, word
        verb = (*verb, word)
    return verb, None


def missing_make_targets(page: Path, root: Path) -> list[str]:
    """`make` targets that a page names and the Makefile has not."""
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
    text = page.read_text(encoding="utf-8")
    code = "\n".join(block["body"] for block in _FENCE.finditer(text))
    named = {a or b for a, b in _MAKE.findall(code)} | {b for _, b in _MAKE.findall(text) if b}
    return [
        f"{page.relative_to(root)}: the Makefile has no target {name}" for name in sorted(named - targets)
    ]


def dead_links(page: Path, root: Path) -> list[str]:
    """Relative links to files that do not exist."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in _LINK.findall(text) if not IGNORED_FOLDERS & set(Path(link).parts)]
    return [
        f"{page.relative_to(root)}: {link} does not exist"
        for link in links
        if not (page.parent / link).exists()
    ]


_ENTRY = re.compile(
    r"\d{4}-\d\d-\d\d: (?P<title>\S[^\n]*)\n\n"
    r"\*\*Verdict:\*\* (?P<verdict>[a-z ]+?)(?: ?\([^\n]+\))?\. \*\*Figure:\*\* \S[^\n]*\.\n"
)
VERDICTS = {"worked", "worked in part", "did not work", "kept", "given up", "fixed"}


def malformed_log_entries(log: str) -> list[str]:
    """Entries of docs/log.md without a date and a title, one of `VERDICTS`, and a figure; and those out of order."""
    entries = re.split(r"^### ", log, flags=re.M)[1:]
    violations = []
    for entry in entries:
        match = _ENTRY.match(entry)
        if match is None or match["verdict"] not in VERDICTS:
            violations.append(f"docs/log.md: {entry.splitlines()[0]}")
    dates = [entry[:10] for entry in entries]
    if dates != sorted(dates):
        violations.append("docs/log.md: the newest entry comes last")
    return violations


_MACHINE = re.compile(
    r"(?<![\w.~-])/(?:wor"
    + r"k|farm|root|home|Users|mnt|opt)/[A-Za-z.][\w./-]*|\b(?<!==)(?!127\.|0\.0\.0\.0|255\.|10\.0\.0\.|192\.0\.2\.)"
    r"(?:\d{1,3}\.){3}\d{1,3}\b(?!\.)|[\w.+-]+@(?!example\.)[\w-]+\.(?:com|org|net|io|de)\b"
)
_TEXT_FILES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ".jinja", ".html", ".cfg", ""}


def personal_traces(root: Path) -> list[str]:
    """Paths of somebody's machine, addresses of hosts and mailboxes, in any text file of the project."""
    violations = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") and part not in (".ci", ".gitignore") for part in parts)
        if (
            hidden
            or IGNORED_FOLDERS & set(parts)
            or not path.is_file()
            or path.suffix not in _TEXT_FILES
            or path.name == "LICENSE"
        ):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            for match in _MACHINE.finditer(line):
                violations.append(f"{path.relative_to(root)}:{number}: {match.group()!r}")
    return violations
