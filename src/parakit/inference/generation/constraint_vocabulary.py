"""What each token of a vocabulary writes, as llguidance reads it: bytes for text, nothing for control tokens.

A control token has no bytes, so no text can produce it; a grammar can name its id, `<[5]>`, which counts only where the
constraint allows it. The end of a completion is a token of llguidance's own behind the vocabulary, which stands for the
tokenizer's stop ids. Tokenizers of words and pieces write some tokens otherwise at the beginning of a text (a SentencePiece
token loses its space, a WordPiece token has none): those have a second entry behind the vocabulary, which counts for the
first token of a completion.

Shapes: V vocabulary, E entries for llguidance.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.tokens.tokenizer.tokenizer import Tokenizer

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
N_PROOFS = 40  # random completions whose text must be their tokens' texts joined
_LOCK = threading.RLock()


class ConstraintVocabulary:
    """A tokenizer's tokens for llguidance. `ll_tokenizer` has E entries, the last one being the end of a completion."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        llguidance = import_llguidance()
        if tokenizer.kind == "byte_bpe":
            first = later = _byte_level(tokenizer)
        else:
            first, later = _decoded(tokenizer)
        entries, numbers = list(later), []
        for token_id, (alone, within) in enumerate(zip(first, later, strict=True)):
            numbers.append(token_id if alone == within else len(entries))
            if alone != within:
                entries.append(alone)
        self.vocab_size = len(later)
        self.control_ids = tokenizer.control_ids
        self.first_numbers = np.array(numbers)
        """The entry (V,) that counts for each token at the beginning of a completion."""
        self.end_number = len(entries)
        self.ll_tokenizer: Any = llguidance.LLTokenizer(_Wrapper(entries), slices=[])
        self.lock = threading.Lock()
        self.compiled: OrderedDict[str, Any] = OrderedDict()
        """Compiled grammars, oldest use first."""


class _Wrapper:
    """The form in which llguidance reads a tokenizer. It would encode text that a grammar forces, which is off."""

    is_tokenizer_wrapper = True

    def __init__(self, entries: list[bytes]) -> None:
        self.tokens = [b"" if b"\xff" in entry else entry for entry in entries] + [b""]  # 0xFF is in no text
        end = len(entries)
        vars(self).update({"bos_token_id": None, "eos_token_id": end, "special_token_ids": [end]})

    def __call__(self, text: Any) -> list[int]:
        return []


_VOCABULARIES: WeakKeyDictionary[Tokenizer, ConstraintVocabulary] = WeakKeyDictionary()


def constraint_vocabulary(tokenizer: Tokenizer) -> ConstraintVocabulary:
    """The vocabulary of a tokenizer, made once."""
    with _LOCK:
        if tokenizer not in _VOCABULARIES:
            _VOCABULARIES[tokenizer] = ConstraintVocabulary(tokenizer)
        return _VOCABULARIES[tokenizer]


def import_llguidance() -> Any:
    """The library; `UserError` where it is not installed."""
    try:
        import llguidance
    except ImportError:
        raise UserError(
            "llguidance is not installed, which constrained output needs", "pip install 'parakit[constrain]'"
        ) from None
    return llguidance


def _byte_level(tokenizer: Tokenizer) -> list[bytes]:
    silent = {*tokenizer.special_tokens.values(), *tokenizer.byte_or_text}
    return [b"" if token_id in silent else data for token_id, data in enumerate(tokenizer.token_bytes)]


def _decoded(tokenizer: Tokenizer) -> tuple[list[bytes], list[bytes]]:
    """Each token's text at the beginning of a completion and behind other tokens."""
    special = set(tokenizer.special_tokens.values())
    ordinary = [i for i in sorted(tokenizer.vocabulary.values()) if i not in special]
    first, later = ([b""] * tokenizer.vocab_size for _ in range(2))
    before_id = next((i for i in ordinary if tokenizer.decode([i]).strip().isalnum()), None)
    if before_id is None:
        raise UserError("no token of this tokenizer writes a letter", "constrained output needs some")
    before = tokenizer.decode([before_id])
    for token_id in ordinary:
        byte = BYTE_TOKEN.fullmatch(tokenizer.token(token_id))
        if (
            byte and tokenizer.decode([token_id]) != byte[0]
        ):  # a byte of a character, of which text has no token
            value = int(byte[1], 16)
            if value >= 0x80:
                first[token_id] = later[token_id] = bytes([value])
                continue
        together = tokenizer.decode([before_id, token_id])
        if together.startswith(before):
            first[token_id] = tokenizer.decode([token_id]).encode()
            later[token_id] = together[len(before) :].encode()
    _prove(tokenizer, ordinary, first, later)
    return first, later


def _prove(tokenizer: Tokenizer, ordinary: list[int], first: list[bytes], later: list[bytes]) -> None:
    """Raise `UserError` where the text of several tokens is not what each of them writes."""
    generator = rng(0, "constraint vocabulary")
    for _ in range(N_PROOFS):
        token_ids = generator.choice(ordinary, 6).tolist()
        joined = first[token_ids[0]] + b"".join(later[i] for i in token_ids[1:])
        if b"" in (first[token_ids[0]], *(later[i] for i in token_ids[1:])) or not _is_text(joined):
            continue
        if tokenizer.decode(token_ids) != joined.decode():
            raise UserError(
                f"this {tokenizer.kind} tokenizer writes tokens otherwise than one by one, so that a constraint cannot"
                " follow them",
                "use a model with a byte-level tokenizer for constrained output",
            )


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
