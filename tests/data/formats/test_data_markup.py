"""LaTeX, notebooks and subtitles as text."""

import json

import pytest

from parakit.data.readers.formats.latex import latex_text
from parakit.data.readers.formats.notebook import notebook_blocks
from parakit.data.readers.formats.subtitles import subtitle_blocks
from parakit.data.readers.lines import UnreadableFileError


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"caf\'e, na\"{\i}ve, \c{c}a, \aa, \ss{} --- ``so''", "café, naïve, ça, å, ß — “so”"),
        ("50\\% % a comment\nmore", "50% more"),
        (r"\textbf{bold} \unknown[x]{kept} \vspace{2cm}end", "bold kept end"),
        (r"see \cite[p. 3]{knuth} and $x^2 \& y$, \$5", r"see [knuth] and $x^2 \& y$, $5"),
        (r"a\footnote{A \emph{note}.} b", "a[^1] b\n\n[^1]: A note."),
        (r"\href{http://x}{link} \url{http://a_b} \verb|x_y|", "link http://a_b `x_y`"),
        (r"\section{One}\label{a}\input{secret}Two", "## One\n\nTwo"),
        ("\\begin{itemize}\n\\item a\n\\item b\n\\end{itemize}", "- a\n- b"),
        ("\\begin{enumerate}\n\\item a\n\\item b\n\\end{enumerate}", "1. a\n2. b"),
        (r"\begin{equation}\label{e} E=mc^2 \end{equation}", "$$\nE=mc^2\n$$"),
        (
            "\\begin{tabular}{l|r}\\hline A & B \\\\ 1 & 2\\&3 \\\\\\end{tabular}",
            "| A | B |\n| --- | --- |\n| 1 | 2&3 |",
        ),
        ("\\begin{verbatim}\nx % y\n\\end{verbatim}", "```\nx % y\n```"),
        (r"\newcommand{\foo}[1]{#1!}\def\bar#1{x}text", "text"),
        (r"\documentclass{a}\title{T}\begin{document}Body.\end{document}junk", "# T\n\nBody."),
        (r"unclosed {brace and \begin{itemize} \item x", "unclosed brace and\n\n- x"),
        ("costs $5 here\n\nand $6 there", "costs $5 here\n\nand $6 there"),
    ],
)
def test_latex_as_text(source: str, text: str) -> None:
    assert latex_text(source) == text + "\n"


def test_deeply_nested_latex_ends() -> None:
    assert "x" in latex_text("{" * 50_000 + "x" + "}" * 50_000)
    assert "x" in latex_text(r"\emph{" * 20_000 + "x")


def test_a_notebook_gives_its_cells_without_outputs() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# A\n", "text"]},
        {"cell_type": "code", "source": "x = 1\n", "outputs": [{"text": "1000000"}]},
        {"cell_type": "code", "source": ""},
    ]
    notebook = {"cells": cells, "metadata": {"language_info": {"name": "R"}}}
    assert "".join(notebook_blocks(json.dumps(notebook))) == "# A\ntext\n\n```r\nx = 1\n```\n\n"
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["y"]}]}]}
    assert "".join(notebook_blocks(json.dumps(old))) == "```python\ny\n```\n\n"
    for damaged in ("{", "[1]", "{}", '{"cells": 3}'[:-4]):
        with pytest.raises(UnreadableFileError, match="damaged notebook"):
            list(notebook_blocks(damaged))


def subtitles(text: str) -> str:
    return "".join(subtitle_blocks(text.splitlines()))


def test_subtitles_become_sentences_with_speakers() -> None:
    srt = (
        "1\n00:00:01,000 --> 00:00:02,000\n<i>This goes</i>\n\n2\n00:00:02,000 --> 00:00:03,000\n{\\an8}on here.\n\n"
        "3\n00:00:03,500 --> 00:00:04,000\n- Who?\n- Me.\n\n4\n00:00:20,000 --> 00:00:21,000\nLater.\n"
    )
    assert subtitles(srt) == "This goes on here.\n- Who?\n- Me.\n\nLater.\n"
    vtt = (
        "WEBVTT\n\nNOTE a remark\n\n00:01.000 --> 00:02.000 align:start\n<v Ann>One &amp; two\n\n"
        "00:02.000 --> 00:03.000\n<v Ann>three.\n\n00:03.000 --> 00:04.000\n<v Bob>Yes.\n"
    )
    assert subtitles(vtt) == "Ann: One & two three.\nBob: Yes.\n"


def test_a_rolling_caption_is_read_once() -> None:
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\none\n\n00:02.000 --> 00:03.000\none\ntwo\n\n00:03.000 --> 00:04.000\ntwo\nthree\n"
    assert subtitles(vtt) == "one two three\n"
