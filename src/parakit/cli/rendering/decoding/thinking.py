"""A reply on the terminal: the answer on standard output, the reasoning before it dimmed on standard error."""

import sys
from typing import TYPE_CHECKING

from parakit.cli.rendering.safe_text import plain

if TYPE_CHECKING:
    from parakit.inference.tool_calls.reasoning import ReasoningDelta

HIDE_THINKING = "Do not show what a reasoning model writes before its answer."
_FAINT, _RESET = "\x1b[2m", "\x1b[0m"


class ReplyPrinter:
    """Prints the pieces of one reply as they come; `show` each and `finish` at the end."""

    def __init__(self, hide_thinking: bool) -> None:
        self._is_hidden, self._is_dimmed = hide_thinking, sys.stderr.isatty()
        self._is_thinking = False

    def show(self, piece: "str | ReasoningDelta") -> None:
        """Print a piece."""
        if isinstance(piece, str):
            self._end_thinking()
            print(piece, end="", flush=True)
            return
        if self._is_hidden:
            return
        text = plain(piece.text)
        if not self._is_thinking:
            self._is_thinking = True
            text = f"{_FAINT}{text}" if self._is_dimmed else f"thinking: {text}"
        print(text, end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """End the last line."""
        self._end_thinking()
        print(flush=True)

    def _end_thinking(self) -> None:
        if self._is_thinking:
            self._is_thinking = False
            print(f"{_RESET}\n" if self._is_dimmed else "\n", file=sys.stderr, flush=True)
