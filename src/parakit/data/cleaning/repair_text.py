"""Repair of text that was decoded wrongly, with ftfy (Speer 2019, https://github.com/rspeer/python-ftfy).

On by default are the two repairs that restore what the author wrote: text that is UTF-8 read in another encoding
("cafÃ©"), and control characters that no text has. The others change what may be meant, such as curly quotes or an HTML
entity in a text about HTML, and are switched on one by one. Source code is left as it is: a program may hold broken text
on purpose. ftfy looks at each line by itself, and so does this step; lines that cannot be broken never reach it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from parakit.data.cleaning.libraries import load_library
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import TextStep

CODE_FILES = (
    *(
        "*.bash",
        "*.c",
        "*.cc",
        "*.cpp",
        "*.cs",
        "*.css",
        "*.csv",
        "*.go",
        "*.h",
        "*.hpp",
        "*.ipynb",
        "*.java",
        "*.jl",
    ),
    *(
        "*.js",
        "*.json",
        "*.kt",
        "*.lua",
        "*.m",
        "*.php",
        "*.pl",
        "*.py",
        "*.r",
        "*.rb",
        "*.rs",
        "*.scala",
        "*.sh",
    ),
    *("*.sql", "*.swift", "*.toml", "*.ts", "*.tsv", "*.xml", "*.yaml", "*.yml"),
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc\ud800-\udfff]")


class RepairTextConfig(StepConfig):
    """Text decoded in a wrong encoding, and control characters."""

    step: Literal["repair_text"] = "repair_text"
    exclude: tuple[str, ...] = Field(
        default=CODE_FILES,
        description="Patterns of files that the step leaves as they are; source code and data by default.",
    )
    encoding: bool = Field(default=True, description="Restore UTF-8 that was read in another encoding.")
    control_characters: bool = Field(
        default=True, description="Remove control characters and terminal escapes; tabs and line ends stay."
    )
    html_entities: bool = Field(default=False, description="Replace entities such as &amp; outside of HTML.")
    quotes: bool = Field(default=False, description="Replace curly quotation marks by straight ones.")
    ligatures: bool = Field(default=False, description="Replace ligatures such as ﬁ by their letters.")
    width: bool = Field(default=False, description="Replace full-width and half-width forms by usual ones.")
    line_breaks: bool = Field(default=False, description="Replace the rare kinds of line ends by plain ones.")
    normalization: Literal["NFC", "NFKC"] | None = Field(
        default=None, description="The Unicode normalization form to bring the text into."
    )

    def build(self, folder: Path) -> TextStep:
        ftfy = load_library("ftfy", "repair_text")
        config = ftfy.TextFixerConfig(
            unescape_html=self.html_entities,
            remove_terminal_escapes=self.control_characters,
            fix_encoding=self.encoding,
            restore_byte_a0=self.encoding,
            replace_lossy_sequences=self.encoding,
            decode_inconsistent_utf8=self.encoding,
            fix_c1_controls=self.encoding,
            fix_latin_ligatures=self.ligatures,
            fix_character_width=self.width,
            uncurl_quotes=self.quotes,
            fix_line_breaks=self.line_breaks,
            fix_surrogates=True,
            remove_control_chars=self.control_characters,
            normalization=self.normalization,
            explain=False,
        )
        is_bad = ftfy.badness.is_bad
        all_lines = self.quotes or self.ligatures or self.width or self.line_breaks or self.normalization

        def may_be_broken(text: str) -> bool:
            if self.control_characters and _CONTROL.search(text):
                return True
            if self.html_entities and "&" in text:
                return True
            return not text.isascii() and bool(all_lines or is_bad(text))

        def repair(text: str) -> str:
            if not may_be_broken(text):
                return text
            lines = text.split("\n")
            return "\n".join(
                ftfy.fix_text_segment(line, config) if may_be_broken(line) else line for line in lines
            )

        return repair
