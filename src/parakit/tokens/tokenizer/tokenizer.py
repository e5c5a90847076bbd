"""The tokenizer: text to ids and back, and the special tokens.

Wraps a `tokenizer.json`. `encode` never yields a control id, whatever the text contains: control ids are
inserted as ids, by `chat_template` and `shards` alone. Lone surrogates, which are no text, are read as
U+FFFD. Byte BPE gives back exactly what it was given. The truth about a tokenizer is the text of its
tokenizer.json; a translator that cuts what it writes by other rules than what it reads has a second one, `target`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.errors import UserError
from parakit.tokens.tokenizer.fast_encoding import (
    ReferenceEncoder,
    TextEncoder,
    fix_surrogates,
    inside_description,
    text_added_tokens,
    text_encoder,
    token_bytes,
)
from parakit.tokens.tokenizer.special_tokens import SpecialTokens


class Tokenizer:
    """A trained or loaded tokenizer."""

    def __init__(
        self,
        tokenizer_json: str,
        *,
        kind: str,
        special: SpecialTokens,
        chat_template: str | None = None,
        target_json: str | None = None,
    ) -> None:
        self.json = tokenizer_json
        self.target_json = target_json
        self.kind = kind
        self.special = special
        self.chat_template = chat_template
        self._whole = HuggingFaceTokenizer.from_str(tokenizer_json)
        self._whole.no_truncation()
        self._whole.no_padding()
        if self.pad_id is not None and self.pad_id == self.eos_id:
            raise UserError(
                "PAD and EOS are the same token, so the end of a text would be masked away",
                "give padding a token of its own",
            )

    # --- ids of special tokens
    def _special_id(self, purpose: str) -> int | None:
        form = self.special.strings.get(purpose)
        return None if form is None else self._whole.token_to_id(form)

    bos_id = property(lambda self: self._special_id("bos"), doc="Opens a document.")
    eos_id = property(lambda self: self._special_id("eos"), doc="Closes a document; learned.")
    pad_id = property(lambda self: self._special_id("pad"), doc="Fills rows; never counted, never EOS.")
    unk_id = property(lambda self: self._special_id("unk"), doc="What the kind cannot spell.")
    sep_id = property(lambda self: self._special_id("sep"), doc="Separates two texts.")
    cls_id = property(lambda self: self._special_id("cls"), doc="Stands for the whole text.")
    mask_id = property(lambda self: self._special_id("mask"), doc="Hides a token.")

    @cached_property
    def sentinel_ids(self) -> list[int]:
        """Ids of the sentinels of span corruption, in the order of use; empty where there are none."""
        ids = [self._whole.token_to_id(form) for form in self.special.sentinels]
        return [token_id for token_id in ids if token_id is not None]

    @cached_property
    def turn_ids(self) -> dict[str, int]:
        """Ids of the turn markers by name: system, user, assistant, tool, end."""
        ids = {name: self._whole.token_to_id(form) for name, form in self.special.turns.items()}
        return {name: token_id for name, token_id in ids.items() if token_id is not None}

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Every control token's form and id, UNK included."""
        ordinary = {t["id"] for t in text_added_tokens(self.description)}
        added = {
            t["content"]: t["id"] for t in self.description.get("added_tokens", []) if t["id"] not in ordinary
        }
        named = {form: self._whole.token_to_id(form) for form in self.special.all_strings()}
        return added | {form: token_id for form, token_id in named.items() if token_id is not None}

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids that text must never become: all special tokens but UNK."""
        return frozenset(self.special_tokens.values()) - {self.unk_id}

    @cached_property
    def control_pattern(self) -> re.Pattern[str] | None:
        """Matches a special token's form, the longest first; for a template's own text only."""
        forms = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, forms))})") if forms else None

    # --- encoding
    @cached_property
    def description(self) -> dict[str, Any]:
        """tokenizer.json, parsed."""
        return json.loads(self.json)

    @cached_property
    def _encoder(self) -> TextEncoder:
        control_ids = set(self.control_ids)
        return text_encoder(self._whole, self.description, self.kind, control_ids, lambda: self.plain)

    @cached_property
    def plain(self) -> ReferenceEncoder:
        """The `tokenizers` path of text encoding: the reference for the fast one, and the one that knows
        character spans.
        """
        return ReferenceEncoder(self.description, set(self.control_ids))

    @cached_property
    def continuation_encoder(self) -> ReferenceEncoder | None:
        """The encoder of text that follows a control token, where it is another than `plain`: newer Llama tokenizers
        open only the first text with a space (Metaspace's prepend_scheme "first").
        """
        inner = inside_description(self.description)
        return None if inner is None else ReferenceEncoder(inner, set(self.control_ids))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. No BOS, no EOS, no control token even if the text spells one."""
        return self._encoder.encode(fix_surrogates(text))

    def encode_bulk(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of many texts on all cores: one uint32 array each, equal to `encode`."""
        return self._encoder.encode_bulk([fix_surrogates(text) for text in texts])

    # --- decoding
    @cached_property
    def token_bytes(self) -> list[bytes]:
        """What each id adds to a decoded text, as UTF-8 bytes (byte BPE: maybe a part of a character).
        Special tokens: their form.
        """
        controls = {*self.special_tokens.values()}
        pieces = []
        for token_id in range(self.vocab_size):
            token = self._whole.id_to_token(token_id) or ""
            data = token_bytes(token) if self.kind == "byte_bpe" and token_id not in controls else None
            pieces.append(token.encode() if data is None else data)
        return pieces

    def decode_bytes(self, token_ids: Iterable[int], skip_special: bool = True) -> bytes:
        """Byte BPE: the exact bytes of `token_ids`. An id outside the vocabulary becomes U+FFFD."""
        if self.kind != "byte_bpe":
            raise UserError(f"a {self.kind} tokenizer has no bytes of its own", "use decode")
        table, skipped = self.token_bytes, set(self.special_tokens.values()) if skip_special else ()
        pieces = (
            table[i] if 0 <= i < len(table) else b"\xef\xbf\xbd"
            for i in map(int, token_ids)
            if i not in skipped
        )
        return b"".join(pieces)

    def decode(self, token_ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of `token_ids`; bytes that form no character become U+FFFD."""
        if self.kind == "byte_bpe":
            return self.decode_bytes(token_ids, skip_special).decode("utf-8", "replace")
        return self._whole.decode([int(i) for i in token_ids], skip_special_tokens=skip_special)

    def token(self, token_id: int) -> str:
        """The token as the vocabulary writes it (byte BPE: in GPT-2's printable byte alphabet)."""
        token = self._whole.id_to_token(token_id)
        if token is None:
            raise UserError(
                f"token id {token_id} is outside the vocabulary of {self.vocab_size}",
                "ids run from 0 to vocab_size - 1",
            )
        return token

    def token_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it, special tokens included."""
        return self._whole.token_to_id(token)

    @cached_property
    def target(self) -> Tokenizer:
        """The tokenizer of texts that the model writes: this one, but for Marian's two models over one vocabulary."""
        if self.target_json is None:
            return self
        return Tokenizer(self.target_json, kind=self.kind, special=self.special)

    # --- facts and files
    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token as the vocabulary writes it, and its id; special tokens included."""
        return self._whole.get_vocab(with_added_tokens=True)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the greatest id."""
        return max(self.vocabulary.values()) + 1

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of tokenizer.json, the frame that it puts around a text left out: ids of texts do not
        depend on it.
        """
        described = [self.description | {"post_processor": None}]
        if self.target_json is not None:
            described.append(json.loads(self.target_json) | {"post_processor": None})
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def save(self, folder: str | Path, token_types: bool = False) -> None:
        """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja, as
        transformers reads them; `token_types` where the model reads which of two texts a token is of.
        """
        from parakit.tokens.tokenizer.files import save_tokenizer

        save_tokenizer(self, Path(folder), token_types)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a folder that holds a tokenizer, ours or foreign: a tokenizer.json, or the files of GPT-2, BERT, T5,
        Llama or Marian. Runs no code from it; `UserError` when it is none or damaged.
        """
        from parakit.tokens.tokenizer.files import load_tokenizer

        return load_tokenizer(Path(folder))
