"""LaTeX sources (.tex): text as Markdown, with formulas kept as they are written.

The preamble, comments and layout go; sections, lists, tables, footnotes and code become Markdown. No file that the source
includes is opened, and macros that it defines are not expanded: their arguments stay as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.latex_symbols import ACCENTS, SYMBOLS, accented
from parakit.data.readers.formats.office.markdown import markdown_table
from parakit.data.readers.formats.whole import read_whole
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import open_text

MAX_DEPTH = 100
_CELL, _ROW = "\ue000", "\ue001"  # between the cells and the rows of a table while it is converted
_TOKEN = re.compile(
    r"\\(begin|end)\s*\{([^{}\n]{1,60})\}|\\verb\*?([^\sA-Za-z*])|\\([A-Za-z@]+)\*?[ \t]*|\\(.)"
    r"|(\$\$?)|([{}])|(``|''|---?|~|&)|%[^\n]*(?:\n[ \t]*)?|([^\\${}`'\-~&%]+|.)",
    re.DOTALL,
)  # fmt: skip
_ITEM = re.compile(r"\n\s*\n(?=[ ]*(?:- |\d+\. ))")  # items follow each other without an empty line
_HEADINGS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5, "subparagraph": 6,
             "frametitle": 3}  # fmt: skip
_MATH = {
    "equation",
    "align",
    "gather",
    "multline",
    "eqnarray",
    "displaymath",
    "math",
    "flalign",
    "alignat",
    "dmath",
}
_VERBATIM = {"verbatim", "lstlisting", "minted", "Verbatim", "alltt", "code"}
_REMOVED = {"comment", "tikzpicture", "picture", "filecontents", "pgfpicture", "CCSXML"}
_TABLES = {"tabular", "tabularx", "tabulary", "longtable", "array", "supertabular"}
_LISTS = {"itemize": "- ", "enumerate": "1. ", "description": "- ", "compactitem": "- ", "compactenum": "1. "}
_ENVIRONMENT_ARGUMENTS = {"thebibliography": 1, "minipage": 1, "multicols": 1, "wrapfigure": 2, "subfigure": 1, "adjustbox": 1,
                          "spacing": 1, "column": 1, "list": 2, "otherlanguage": 1, "textblock": 1}  # fmt: skip
_THEOREMS = {"theorem", "lemma", "proof", "corollary", "proposition", "definition", "example", "remark"}
_WITHOUT_ARGUMENTS = {  # layout and references to files: the command goes with all of its arguments
    "vspace", "hspace", "setlength", "addtolength", "setcounter", "addtocounter", "pagestyle", "thispagestyle", "label",
    "bibliographystyle", "bibliography", "includegraphics", "graphicspath", "color", "definecolor", "geometry",
    "hypersetup", "index", "nocite", "pagenumbering", "input", "include", "usepackage", "documentclass", "RequirePackage",
    "addbibresource", "printbibliography", "newtheorem", "theoremstyle", "newcounter", "newlength", "DeclareMathOperator",
    "includeonly", "lstset", "usetikzlibrary", "markboth", "markright", "addcontentsline", "fontsize", "rule", "phantom",
    "vskip", "hskip", "externaldocument", "date", "title", "author", "keywords", "cline", "cmidrule", "fancyhead", "fancyfoot",
    "newif", "numberwithin", "allowdisplaybreaks", "linespread", "enlargethispage", "write", "openout", "PassOptionsToPackage",
}  # fmt: skip
_DEFINITIONS = {
    "newcommand",
    "renewcommand",
    "providecommand",
    "newenvironment",
    "renewenvironment",
    "DeclareRobustCommand",
}
_FIRST_DROPPED = {"textcolor", "colorbox", "href", "parbox", "raisebox", "scalebox", "resizebox", "multicolumn", "multirow",
                  "foreignlanguage", "fcolorbox"}  # fmt: skip
_N_DROPPED = {"multicolumn": 2, "multirow": 2, "resizebox": 2, "fcolorbox": 2}
_CITATIONS = {"cite", "citep", "citet", "citealp", "parencite", "textcite", "autocite", "ref", "eqref", "autoref", "cref",
              "Cref", "pageref", "nameref", "vref"}  # fmt: skip


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text of a source, whole."""
    with open_text(file, config, report) as stream:
        yield TextPart(latex_text(read_whole(stream)), file.source)


def latex_text(source: str) -> str:
    """The text of a LaTeX source as Markdown."""
    source = source.replace("\r\n", "\n").replace(_CELL, "").replace(_ROW, "")
    head = ""
    if found := re.search(r"^[^%\n]*\\begin\s*\{document\}", source, re.MULTILINE):
        preamble, source = source[: found.end()], source[found.end() :]
        head = _front(preamble + source)
        source = re.split(r"\\end\s*\{document\}", source, maxsplit=1)[0]
    converter = _Converter(source)
    body = converter.convert()
    notes = "".join(f"\n\n[^{n}]: {note}" for n, note in enumerate(converter.notes, 1))
    text = re.sub(r"[ \t]+\n", "\n", head + body + notes)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _front(text: str) -> str:
    """The title and the authors."""
    parts = []
    for command, before in (("title", "# "), ("author", "")):
        if found := re.search(rf"\\{command}\s*(?:\[[^\]]*\])?\s*\{{", text):
            converter = _Converter(text, found.end())
            value = " ".join(converter.convert(until="}").split())
            if value:
                parts.append(f"{before}{value}\n\n")
    return "".join(parts)


@dataclass
class _Converter:
    source: str
    position: int = 0
    notes: list[str] = field(default_factory=list)
    lists: list[list] = field(default_factory=list)
    """Of each open list the marker and the number of items so far."""
    depth: int = 0
    n_tables: int = 0
    """How many tables are open here."""

    def convert(self, until: str = "") -> str:
        """Convert up to a closing brace (`until` "}"), to the end of an environment, or to the end."""
        self.depth += 1
        parts: list[str] = []
        while self.position < len(self.source):
            match = _TOKEN.match(self.source, self.position)
            assert match is not None  # its last branch takes any character
            self.position = match.end()
            edge, environment, verb, command, symbol, math, brace, ligature, text = match.groups()
            if text is not None:
                parts.append(text)
            elif brace == "}" or edge == "end":
                if until == (brace or environment.rstrip("*")):
                    break  # one without a beginning is passed over
            elif brace == "{":
                if self.depth < MAX_DEPTH:
                    parts.append(self.convert("}"))
            elif edge == "begin":
                parts.append(self._environment(environment.rstrip("*")))
            elif verb is not None:
                parts.append(f"`{self._raw_until(re.escape(verb))}`")
            elif command is not None:
                parts.append(self._command(command))
            elif symbol is not None:
                parts.append(self._symbol(symbol))
            elif math is not None:
                parts.append(self._formula(math))
            elif ligature is not None:
                parts.append(
                    _CELL if ligature == "&" and self.n_tables else _LIGATURES.get(ligature, ligature)
                )
        self.depth -= 1
        return "".join(parts)

    def _environment(self, name: str) -> str:
        if name in _MATH:
            raw = self._raw_until(rf"\\end\s*\{{{name}\*?\}}").strip()
            raw = re.sub(r"\\label\{[^}]*\}\s*", "", raw)
            inner = (
                raw
                if name in ("equation", "displaymath", "math")
                else f"\\begin{{{name}}}\n{raw}\n\\end{{{name}}}"
            )
            return f"\n\n$$\n{inner}\n$$\n\n"
        if name in _VERBATIM:
            raw = self._raw_until(rf"\\end\s*\{{{name}\*?\}}")
            raw = re.sub(r"^(?:\[[^\]\n]*\]|\{[^}\n]*\})*", "", raw).strip("\n")
            return f"\n\n```\n{raw}\n```\n\n"
        if name in _REMOVED:
            self._raw_until(rf"\\end\s*\{{{name}\*?\}}")
            return ""
        if self.depth >= MAX_DEPTH:
            return ""
        option = self._optional()
        if name in _TABLES:
            for _ in range(2 if name in ("tabularx", "tabulary") else 1):
                self._drop_argument()
            self.n_tables += 1
            rows = [row.split(_CELL) for row in self.convert(name).split(_ROW)]
            self.n_tables -= 1
            return f"\n\n{markdown_table(rows)}\n\n"
        if name in _LISTS:
            self.lists.append([_LISTS[name], 0])
            body = _ITEM.sub("\n", self.convert(name))
            self.lists.pop()
            indented = body if not self.lists else body.replace("\n", "\n    ")
            return f"\n{indented.rstrip()}\n\n" if self.lists else f"\n\n{body.strip()}\n\n"
        for _ in range(_ENVIRONMENT_ARGUMENTS.get(name, 0)):
            self._drop_argument()
        if name == "frame" and self.source.startswith("{", self.position):
            option = " ".join(self._argument().split())
            return f"\n\n### {option}\n\n{self.convert(name).strip()}\n\n"
        body = self.convert(name).strip()
        if name == "abstract":
            return f"\n\n## Abstract\n\n{body}\n\n"
        if name in _THEOREMS:
            body = f"{name.capitalize()}{f' ({option})' if option else ''}. {body}"
        return f"\n\n{body}\n\n"

    def _command(self, name: str) -> str:
        if name in _HEADINGS:
            self._optional()
            title = " ".join(self._argument().split())
            return f"\n\n{'#' * _HEADINGS[name]} {title}\n\n"
        if name in SYMBOLS:
            self._end_of_word()
            return SYMBOLS[name]
        if name in ACCENTS:
            return accented(name, self._argument())
        if name == "item":
            label = self._optional()
            return f"\n{self._marker()}{label + ': ' if label else ''}"
        if name == "bibitem":
            self._optional()
            return f"\n\n[{self._argument()}] "
        if name in ("footnote", "thanks", "footnotetext"):
            self._optional()
            note = " ".join(self._argument().split())
            self.notes.append(note)
            return f"[^{len(self.notes)}]"
        if name in _CITATIONS:
            while self._optional():
                pass
            return f"[{self._argument()}]"
        if name == "caption":
            self._optional()
            return f"\n\n{self._argument().strip()}\n\n"
        if name in ("par", "newline", "newpage", "clearpage", "cleardoublepage"):
            return "\n\n" if name != "newline" else "\n"
        if name in ("def", "gdef", "edef", "let"):
            return self._drop_definition(name)
        if name in _DEFINITIONS:
            self._drop_all()
            return ""
        if name in _WITHOUT_ARGUMENTS:
            self._drop_all()
            return ""
        if name in _FIRST_DROPPED:
            self._optional()
            for _ in range(_N_DROPPED.get(name, 1)):
                self._drop_argument()
            return ""
        if name in ("url", "path", "nolinkurl"):
            self._skip_space()
            return self._raw_group()
        self._optional()  # an unknown command goes, what it is applied to stays
        return ""

    def _symbol(self, symbol: str) -> str:
        if symbol in "([":
            raw = self._raw_until(r"\\\)" if symbol == "(" else r"\\\]").strip()
            return f"${raw}$" if symbol == "(" else f"\n\n$$\n{raw}\n$$\n\n"
        if symbol == "\\":
            self._optional()
            return _ROW if self.n_tables else "\n"
        if symbol in ACCENTS:
            return accented(symbol, self._argument())
        if symbol in "%&$#_{}":
            return symbol
        return " " if symbol in " ,;:\n\t" else ""

    def _marker(self) -> str:
        if not self.lists or self.lists[-1][0] == "- ":
            return "- "
        self.lists[-1][1] += 1
        return f"{self.lists[-1][1]}. "

    def _formula(self, fence: str) -> str:
        """A formula between dollars; a dollar without a second one in its paragraph is a dollar."""
        end = self.source.find(fence, self.position)
        blank = self.source.find("\n\n", self.position)
        if end < 0 or 0 <= blank < end:
            return fence
        raw = self.source[self.position : end]
        self.position = end + len(fence)
        return f"{fence}{raw}{fence}"

    def _argument(self) -> str:
        """The next argument, converted: a group, a command, or one character."""
        self._skip_space()
        if self.source.startswith("{", self.position) and self.depth < MAX_DEPTH:
            self.position += 1
            return self.convert("}")
        match = _TOKEN.match(self.source, self.position)
        if match is None or match[7]:
            return ""
        if match[4]:
            self.position = match.end()
            return SYMBOLS.get(match[4], "")
        self.position += 1
        return self.source[self.position - 1]

    def _optional(self) -> str:
        """The next argument in square brackets, "" where there is none."""
        found = re.compile(r"[ \t]*\[((?:[^\[\]{}]|\{[^{}]*\}|\[[^\[\]]*\]){0,2000})\]").match(
            self.source, self.position
        )
        if not found:
            return ""
        self.position = found.end()
        return _Converter(found[1]).convert().strip() if self.depth < MAX_DEPTH else ""

    def _raw_until(self, end: str) -> str:
        """The source up to a pattern, which is passed over, or to the end."""
        start = self.position
        found = re.compile(end).search(self.source, start)
        self.position = found.end() if found else len(self.source)
        return self.source[start : found.start() if found else self.position]

    def _raw_group(self) -> str:
        """The next group as it is written, without its braces."""
        if not self.source.startswith("{", self.position):
            return ""
        depth, start = 0, self.position + 1
        for found in re.compile(r"\\.|[{}]", re.DOTALL).finditer(self.source, self.position):
            depth += (found[0] == "{") - (found[0] == "}")
            if not depth:
                self.position = found.end()
                return self.source[start : found.start()]
        self.position = len(self.source)
        return self.source[start:]

    def _drop_argument(self) -> None:
        self._skip_space()
        self._raw_group()

    def _drop_all(self) -> None:
        """Pass over all arguments that follow, in braces and brackets, and the name of a command being defined."""
        if found := re.compile(r"\s*\\[A-Za-z@]+").match(self.source, self.position):
            self.position = found.end()
        while True:
            if self._optional():
                continue
            before = self.position
            self._skip_space()
            if not self.source.startswith("{", self.position):
                self.position = before
                return
            self._raw_group()

    def _drop_definition(self, name: str) -> str:
        if name == "let":
            pattern = re.compile(r"\s*\\[A-Za-z@]+\s*=?\s*(?:\\[A-Za-z@]+|\\?.)")
        else:
            pattern = re.compile(r"\s*\\(?:[A-Za-z@]+|.)[^{}\n]*")
        if found := pattern.match(self.source, self.position):
            self.position = found.end()
        if name != "let":
            self._raw_group()
        return ""

    def _skip_space(self) -> None:
        while self.position < len(self.source) and self.source[self.position] in " \t\n":
            self.position += 1

    def _end_of_word(self) -> None:
        """Pass over the empty group that ends a command's name: `\\LaTeX{}`."""
        if self.source.startswith("{}", self.position):
            self.position += 2


_LIGATURES = {"``": "“", "''": "”", "---": "—", "--": "–", "~": "\u00a0", "-": "-"}
