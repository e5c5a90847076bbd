"""Streaming detokenization: emits whole characters only, and never part of a stop string.

A byte-level token can end inside a character, and a stop string can span tokens. Both are held back until they are
certain. The result does not depend on how the text is split into tokens or pieces.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence

from parakit.tokens.tokenizer.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"


class CharacterStream:
    """Token ids in, whole characters out. Special tokens have no text. Invalid UTF-8 becomes U+FFFD."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.special_tokens.values())
        self._bytes = _utf8_decoder() if is_byte_level(tokenizer) else None
        self._token_ids: list[int] = []
        self._window, self._shown = 0, 0

    def push(self, token_id: int) -> str:
        """The characters that have become certain; often none, sometimes several."""
        if token_id in self._special:
            return ""
        if self._bytes is not None:
            return self._bytes.decode(self._tokenizer.decode_bytes([token_id]))
        return self._push_decoded(token_id)

    def _push_decoded(self, token_id: int) -> str:
        """For kinds whose tokens join by rules (word pieces, sentence pieces): the growth of a short window's text."""
        self._token_ids.append(token_id)
        before = self._tokenizer.decode(self._token_ids[self._window : self._shown])
        now = self._tokenizer.decode(self._token_ids[self._window :])
        if now.endswith(REPLACEMENT) or len(now) <= len(before):
            return ""
        self._window, self._shown = self._shown, len(self._token_ids)
        return now[len(before) :]


class StopStrings:
    """Passes text on until a stop string is complete; holds back what could still become one.

    The stop string that is complete first ends the text; of several that end together, the longest.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that is certain now; nothing after a stop."""
        if self.stopped or not self._stop:
            return "" if self.stopped else text
        text = self._held + text
        if match := first_stop(text, self._stop):
            self.stopped, self._held = True, ""
            return text[: match[0]]
        keep = self._n_uncertain(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text has ended: returns what was held back."""
        held, self._held = self._held, ""
        return held

    def _n_uncertain(self, text: str) -> int:
        """Length of the longest suffix of `text` that is a prefix of a stop string."""
        longest = max(map(len, self._stop)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop if len(stop) > length):
                return length
        return 0


class TextStream:
    """Token ids in, text out. A leading `prefix`, which a chat template writes before a response, is removed."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), prefix: str = "") -> None:
        self._characters = CharacterStream(tokenizer)
        self._stop = StopStrings(stop)
        self._prefix, self._held = prefix, ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string has occurred."""
        return self._stop.stopped

    def push(self, token_id: int) -> str:
        """The text that has become certain."""
        return self._stop.push(self._remove_prefix(self._characters.push(token_id)))

    def finish(self) -> str:
        """The remaining text at the end, without an incomplete character."""
        held, self._held = self._held, ""
        return self._stop.push(held) + self._stop.flush()

    def _remove_prefix(self, text: str) -> str:
        """`text`, or nothing while the text may still be the prefix."""
        if not self._prefix:
            return text
        text = self._held + text
        if len(text) < len(self._prefix) and self._prefix.startswith(text):
            self._held = text
            return ""
        text, self._prefix, self._held = text.removeprefix(self._prefix), "", ""
        return text


class StopStringCheck:
    """Whether a row of a batch in flight has met a stop string; a `decoding.StopCheck`.

    The token that completes a stop string holds its last byte: only such tokens are suspects, and only then is text
    decoded.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], prefix: str = "") -> None:
        self._tokenizer, self._stop, self._prefix = tokenizer, tuple(stop), prefix
        self.suspects: Collection[int] | None = None
        # U+FFFD comes from invalid bytes, which can end with any byte
        if is_byte_level(tokenizer) and REPLACEMENT not in "".join(stop):
            last_bytes = {text.encode()[-1] for text in stop}
            self.suspects = frozenset(
                token_id
                for token_id, data in enumerate(tokenizer.token_bytes)
                if not last_bytes.isdisjoint(data)
            )

    def confirms(self, token_ids: Sequence[int]) -> bool:
        """Whether the text of `token_ids`, without the prefix, holds a stop string."""
        if is_byte_level(self._tokenizer):  # an incomplete character at the end is not text yet
            text = _utf8_decoder().decode(self._tokenizer.decode_bytes(token_ids))
        else:
            text = self._tokenizer.decode(token_ids)
        text = text.removeprefix(self._prefix)
        return any(stop in text for stop in self._stop)


def first_stop(text: str, stop: Sequence[str]) -> tuple[int, int] | None:
    """Start and end of the stop string that is complete first in `text`; the longest where several end together."""
    matches = [(start + len(s), start) for s in stop if (start := text.find(s)) >= 0]
    if not matches:
        return None
    end, start = min(matches)
    return start, end


def _utf8_decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether tokens are byte strings, so that a text is its tokens' bytes joined."""
    return tokenizer.kind == "byte_bpe" and not tokenizer.byte_or_text
