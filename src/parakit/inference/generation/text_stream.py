"""From token ids to text that may be shown: whole characters only, and nothing of a stop string.

A byte-level token can end inside a character, and a stop string can begin in one token and end in
another. Both are held back until it is certain what they are. What comes out does not depend on how the
text was cut into tokens or pieces.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence

from parakit.tokens.tokenizer.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"


class CharacterStream:
    """Token ids in, whole characters out. Special tokens have no text. Bytes that are no UTF-8 become
    U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.special_tokens.values())
        self._bytes = _utf8_decoder() if is_byte_level(tokenizer) else None
        self._token_ids: list[int] = []
        self._window, self._shown = 0, 0

    def push(self, token_id: int) -> str:
        """The characters that are certain since the last call; often none, sometimes several."""
        if token_id in self._special:
            return ""
        if self._bytes is not None:
            return self._bytes.decode(self._tokenizer.decode_bytes([token_id]))
        return self._push_decoded(token_id)

    def _push_decoded(self, token_id: int) -> str:
        """Kinds whose tokens join by rules (word pieces, sentence pieces): the growth of a short window's
        text.
        """
        self._token_ids.append(token_id)
        before = self._tokenizer.decode(self._token_ids[self._window : self._shown])
        now = self._tokenizer.decode(self._token_ids[self._window :])
        if now.endswith(REPLACEMENT) or len(now) <= len(before):
            return ""
        self._window, self._shown = self._shown, len(self._token_ids)
        return now[len(before) :]


class StopStrings:
    """Lets text pass until a stop string is complete. What could still become one is held back.

    The stop string that is complete first ends the text; of several that end together, the longest.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of all text so far that may be shown now. Nothing passes after a stop."""
        if self.stopped or not self._stop:
            return "" if self.stopped else text
        text = self._held + text
        if match := first_stop(text, self._stop):
            self.stopped, self._held = True, ""
            return text[: match[0]]
        keep = self._unsure(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The end of the text has come: what was held back is no stop string after all."""
        held, self._held = self._held, ""
        return held

    def _unsure(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        longest = max(map(len, self._stop)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop if len(stop) > length):
                return length
        return 0


class TextStream:
    """Token ids in, text that may be shown out. `margin` is not shown where the text begins with it: what a chat
    template writes before an answer.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), lead: str = "") -> None:
        self._characters = CharacterStream(tokenizer)
        self._stop = StopStrings(stop)
        self._lead, self._held = lead, ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._stop.stopped

    def push(self, token_id: int) -> str:
        """What may be shown since the last call."""
        return self._stop.push(self._led(self._characters.push(token_id)))

    def finish(self) -> str:
        """What may still be shown at the end. Bytes of a character that never became whole are left out."""
        held, self._held = self._held, ""
        return self._stop.push(held) + self._stop.flush()

    def _led(self, text: str) -> str:
        """`text`, or nothing as long as all of the text may still be the lead."""
        if not self._lead:
            return text
        text = self._held + text
        if len(text) < len(self._lead) and self._lead.startswith(text):
            self._held = text
            return ""
        text, self._lead, self._held = text.removeprefix(self._lead), "", ""
        return text


class StopStringCheck:
    """Tells a batch in flight when a row has met a stop string. Implements `decoding.StopCheck`.

    A stop string is completed by a token that holds its last byte: only such tokens are suspects, and
    only then is text decoded.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], lead: str = "") -> None:
        self._tokenizer, self._stop, self._lead = tokenizer, tuple(stop), lead
        self.suspects: Collection[int] | None = None
        if is_byte_level(tokenizer) and REPLACEMENT not in "".join(
            stop
        ):  # bytes that are no text end with any
            last_bytes = {text.encode()[-1] for text in stop}
            self.suspects = frozenset(
                token_id
                for token_id, data in enumerate(tokenizer.token_bytes)
                if not last_bytes.isdisjoint(data)
            )

    def confirms(self, token_ids: Sequence[int]) -> bool:
        """Whether the text of `token_ids` holds a stop string, behind the lead."""
        if is_byte_level(self._tokenizer):  # an unfinished character at the end is not text yet
            text = _utf8_decoder().decode(self._tokenizer.decode_bytes(token_ids))
        else:
            text = self._tokenizer.decode(token_ids)
        text = text.removeprefix(self._lead)
        return any(stop in text for stop in self._stop)


def first_stop(text: str, stop: Sequence[str]) -> tuple[int, int] | None:
    """Start and end of the stop string that is complete first in `text`; the longest where several end
    together.
    """
    found = [(start + len(s), start) for s in stop if (start := text.find(s)) >= 0]
    if not found:
        return None
    end, start = min(found)
    return start, end


def _utf8_decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether a token is a string of bytes, so that a text is its tokens' bytes joined."""
    return tokenizer.kind == "byte_bpe"
