"""Subtitles (.srt, .vtt): the words without their times, joined to sentences, with the speakers that are named.

A line that a rolling caption shows again is taken once. A pause of some seconds after a sentence begins a paragraph.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import decode_blocks, iter_line_blocks, open_text

PAUSE = 4.0  # seconds
_TIME = re.compile(
    r"\s*(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?\s*-->\s*(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
)
_VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]+)>")
_TAG = re.compile(r"</?[a-zA-Z0-9][^>]{0,200}>|\{\\[^}]{0,200}\}|<\d[\d:.]*>")
_ENDS_SENTENCE = re.compile(r"[.!?…。！？♪][\"'”’»)\]]*$")
_DASH = re.compile(r"[-–—]\s*(?=\S)")
_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION)\b")


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The words of a file of subtitles."""
    with open_text(file, config, report) as stream:
        lines = (
            line
            for block in decode_blocks(iter_line_blocks(stream, config.max_line_bytes, report))
            for line in block.splitlines()
        )
        yield from (TextPart(block, file.source) for block in subtitle_blocks(lines))


def subtitle_blocks(lines: Iterable[str]) -> Iterator[str]:
    """The text of subtitles, line by line of the file; sentences end a line, paragraphs have a blank line after them."""
    text, speaker, last_end = "", "", None
    before: list[str] = []
    for start, end, cue in _cues(lines):
        shown = [line for line in cue if line not in before]
        before = cue or before
        for line in shown:
            line, voice, is_turn = _clean(line)
            if not line:
                continue
            ended = not text or bool(_ENDS_SENTENCE.search(text))
            if text and (is_turn or (voice and voice != speaker) or ended):
                pause = last_end is not None and start - last_end >= PAUSE
                yield text + ("\n\n" if ended and pause else "\n")
                text = ""
            if voice and voice != speaker:
                line = f"{voice}: {line}"
            speaker = voice or speaker
            text = f"{text} {line}" if text else line
            last_end = end
    if text:
        yield text + "\n"


def _cues(lines: Iterable[str]) -> Iterator[tuple[float, float, list[str]]]:
    """(start, end, lines) of each cue, times in seconds; what stands before the first time and notes are left out."""
    times: tuple[float, float] | None = None
    cue: list[str] = []
    for raw in lines:
        line = raw.strip()
        if match := _TIME.match(line):
            if times:
                if cue and cue[-1].isdecimal():
                    cue.pop()  # the number of this cue, without an empty line before it
                yield *times, cue
            times, cue = (_seconds(match.groups()[:4]), _seconds(match.groups()[4:])), []
        elif not line:
            if times and cue:
                yield *times, cue
                times, cue = None, []
        elif times and not (not cue and _BLOCK.match(line)):
            cue.append(line)
    if times:
        yield *times, cue


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction or 0}")


def _clean(line: str) -> tuple[str, str, bool]:
    """(text without tags, the speaker that a tag names, whether a dash begins another's turn)."""
    voice = match[1].strip() if (match := _VOICE.search(line)) else ""
    text = html.unescape(_TAG.sub("", _VOICE.sub("", line))).strip()
    is_turn = bool(_DASH.match(text))
    return " ".join(text.split()), voice, is_turn
