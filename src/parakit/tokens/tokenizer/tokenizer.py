"""The tokenizer: text to ids and back, and the special tokens.

Wraps a `tokenizer.json`. `encode` never returns a control id, whatever the text contains: control ids are inserted as
ids, by the chat template and `shards` only. Lone surrogates, which are not valid text, become U+FFFD. Byte BPE decodes
to exactly the encoded text. The text of tokenizer.json defines the tokenizer; a translator whose outputs are tokenized
differently from its inputs has a second one, `target`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.tokenizer.fast_encoding import (
    ReferenceEncoder,
    TextEncoder,
    continuation_json,
    control_token_pattern,
    fastest_encoder,
    fix_surrogates,
    join_characters,
    library_failures,
    text_added_tokens,
    token_bytes,
)
from parakit.tokens.tokenizer.files import (
    PublishedTokenizer,
    TokenizerFiles,
    corrupt_on_failure,
    write_tokenizer_files,
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
        named_templates: Mapping[str, str] | None = None,
        chat_date: str | None = None,
        target_json: str | None = None,
        published: PublishedTokenizer | None = None,
    ) -> None:
        self.json = tokenizer_json
        self.target_json = target_json
        self.kind = kind
        self.special = special
        self.chat_template = chat_template
        self.named_templates = dict(named_templates or {})
        """Chat templates for other uses by name, such as `tool_use`."""
        self.chat_date = chat_date
        """The date (ISO) that a chat template shows, where one is recorded; else that of today."""
        self.published = published
        """The settings of the folder that it was loaded from; `save` keeps what has not changed since."""
        self._backend = HuggingFaceTokenizer.from_str(tokenizer_json)
        self._backend.no_truncation()
        self._backend.no_padding()
        if self.pad_id is not None and self.pad_id == self.eos_id:
            raise UserError(
                "PAD and EOS are the same token, so the loss would not count the end of a text",
                "use a separate token for padding",
            )

    # --- ids of special tokens
    def _special_id(self, purpose: str) -> int | None:
        string = self.special.strings.get(purpose)
        return None if string is None else self._backend.token_to_id(string)

    bos_id = property(lambda self: self._special_id("bos"), doc="Opens a document.")
    eos_id = property(lambda self: self._special_id("eos"), doc="Closes a document; predicted by the model.")
    pad_id = property(
        lambda self: self._special_id("pad"), doc="Fills rows; never counted in a loss, never EOS."
    )
    unk_id = property(lambda self: self._special_id("unk"), doc="Replaces text outside the vocabulary.")
    sep_id = property(lambda self: self._special_id("sep"), doc="Separates two texts.")
    cls_id = property(lambda self: self._special_id("cls"), doc="Its hidden state represents the whole text.")
    mask_id = property(lambda self: self._special_id("mask"), doc="Replaces a masked token.")

    @property
    def start_id(self) -> int | None:
        """What stands before a text whose first token counts, too: BOS, or EOS where there is no BOS."""
        bos_id = self._special_id("bos")
        return self._special_id("eos") if bos_id is None else bos_id

    @cached_property
    def sentinel_ids(self) -> list[int]:
        """Ids of the sentinels of span corruption, in the order of use; empty where there are none."""
        ids = [self._backend.token_to_id(string) for string in self.special.sentinels]
        return [token_id for token_id in ids if token_id is not None]

    @cached_property
    def turn_ids(self) -> dict[str, int]:
        """Ids of the turn markers by name: system, user, assistant, tool, end."""
        ids = {name: self._backend.token_to_id(string) for name, string in self.special.turns.items()}
        return {name: token_id for name, token_id in ids.items() if token_id is not None}

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Every control token and its id, UNK included."""
        ordinary = {t["id"] for t in text_added_tokens(self.parsed_json)}
        added = {
            t["content"]: t["id"] for t in self.parsed_json.get("added_tokens", []) if t["id"] not in ordinary
        }
        named = {string: self._backend.token_to_id(string) for string in self.special.all_strings()}
        return added | {string: token_id for string, token_id in named.items() if token_id is not None}

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids that `encode` never returns: all special tokens but UNK."""
        return frozenset(self.special_tokens.values()) - {self.unk_id}

    @cached_property
    def control_pattern(self) -> re.Pattern[str] | None:
        """Matches a special token with the spaces that its flags take; for a template's own text only."""
        return control_token_pattern(self.parsed_json.get("added_tokens", []), self.special_tokens)

    @cached_property
    def text_markers(self) -> frozenset[str]:
        """Control tokens that their publisher does not flag as special, such as `<think>`: a model writes them as a part
        of its text.
        """
        added = (t["content"] for t in self.parsed_json.get("added_tokens", []) if not t["special"])
        return frozenset(added) & set(self.special_tokens)

    @cached_property
    def text_marker_pattern(self) -> re.Pattern[str] | None:
        """Matches one of `text_markers`, as `control_pattern` does."""
        return control_token_pattern(self.parsed_json.get("added_tokens", []), self.text_markers)

    @property
    def truncation_side(self) -> str:
        """The end at which the publisher cuts a text that is too long: right or left."""
        return str(self.published.config.get("truncation_side", "right")) if self.published else "right"

    # --- chat templates
    def template_for(self, tools: Sequence[Any] | None) -> str | None:
        """The chat template for a conversation with or without `tools`, as transformers chooses it; None without one."""
        return (None if tools is None else self.named_templates.get("tool_use")) or self.chat_template

    @property
    def shows_date(self) -> bool:
        """Whether a chat template asks for the date."""
        return any(
            "strftime_now" in one for one in (self.chat_template or "", *self.named_templates.values())
        )

    @property
    def template_variables(self) -> tuple[tuple[str, str], ...]:
        """The special tokens under the names that chat templates know, and the `date`."""
        self.chat_date = self.chat_date or date.today().isoformat()
        named = [(f"{purpose}_token", string) for purpose, string in self.special.strings.items()]
        return *named, ("date", self.chat_date)

    @property
    def chat_settings(self) -> JsonObject:
        """The arguments that make another tokenizer with the same chat templates."""
        return {
            "chat_template": self.chat_template,
            "named_templates": self.named_templates,
            "chat_date": self.chat_date,
        }

    # --- encoding
    @cached_property
    def parsed_json(self) -> JsonObject:
        """tokenizer.json, parsed."""
        return json.loads(self.json)

    @cached_property
    def _encoder(self) -> TextEncoder:
        control_ids = set(self.control_ids)
        return fastest_encoder(
            self._backend, self.parsed_json, self.kind, control_ids, lambda: self.reference_encoder
        )

    @cached_property
    def reference_encoder(self) -> ReferenceEncoder:
        """Text encoding by `tokenizers`: the reference for the fast path, and the source of character spans."""
        return ReferenceEncoder(self.parsed_json, set(self.control_ids))

    @cached_property
    def continuation_encoder(self) -> ReferenceEncoder | None:
        """The encoder of text that follows a control token, where it differs from `reference_encoder`: newer Llama
        tokenizers prepend a space to the first text only (Metaspace's prepend_scheme "first").
        """
        changed = continuation_json(self.parsed_json)
        return None if changed is None else ReferenceEncoder(changed, set(self.control_ids))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without BOS and EOS, and without a control token even if the text spells one."""
        return self._encoder.encode(fix_surrogates(text))

    def encode_bulk(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of many texts on all cores: one uint32 array each, equal to `encode`."""
        return self._encoder.encode_bulk([fix_surrogates(text) for text in texts])

    def normalize(self, text: str) -> str:
        """`text` as it is before it is split: lowercased, in NFC or the like, where the tokenizer has such a step."""
        normalizer = self._backend.normalizer
        with library_failures():
            return (
                fix_surrogates(text) if normalizer is None else normalizer.normalize_str(fix_surrogates(text))
            )

    # --- decoding
    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes that each id decodes to (byte BPE: possibly a part of a character); for special and added
        tokens their string, also where it looks like the byte alphabet (`½`), unless they are `byte_or_text`.
        """
        literal = {*self.special_tokens.values(), *self._added.keys()} - self.byte_or_text.keys()
        pieces = []
        for token_id in range(self.vocab_size):
            token = self._backend.id_to_token(token_id) or ""
            data = token_bytes(token) if self.kind == "byte_bpe" and token_id not in literal else None
            pieces.append(token.encode() if data is None else data)
        return pieces

    @cached_property
    def byte_or_text(self) -> dict[int, str]:
        """Ids of byte BPE that stand for bytes of the vocabulary and for an added token's string at once: an added `½`
        is the byte 0xBD, too. They decode to the byte where it belongs to a character, else to the string.
        """
        if self.kind != "byte_bpe":
            return {}
        vocabulary = self.parsed_json["model"]["vocab"]
        return {
            token_id: string
            for token_id, string in self._added.items()
            if vocabulary.get(string) == token_id and token_bytes(string) not in (None, string.encode())
        }

    @cached_property
    def _added(self) -> dict[int, str]:
        return {token["id"]: token["content"] for token in self.parsed_json.get("added_tokens", [])}

    def decode_bytes(self, token_ids: Iterable[int], skip_special: bool = True) -> bytes:
        """Byte BPE: the exact bytes of `token_ids`. An id outside the vocabulary becomes U+FFFD."""
        if self.kind != "byte_bpe":
            raise UserError(f"a {self.kind} tokenizer is not byte-level", "use decode")
        table, skipped = self.token_bytes, set(self.special_tokens.values()) if skip_special else ()
        kept = [i for i in map(int, token_ids) if i not in skipped]
        pieces = [table[i] if 0 <= i < len(table) else b"\xef\xbf\xbd" for i in kept]
        if not self.byte_or_text.keys().isdisjoint(kept):
            join_characters(pieces, [self.byte_or_text.get(i) for i in kept])
        return b"".join(pieces)

    def decode(self, token_ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of `token_ids`; bytes that form no character become U+FFFD."""
        if self.kind == "byte_bpe":
            return self.decode_bytes(token_ids, skip_special).decode("utf-8", "replace")
        with library_failures():
            return self._backend.decode([int(i) for i in token_ids], skip_special_tokens=skip_special)

    def token(self, token_id: int) -> str:
        """The token as the vocabulary writes it (byte BPE: in GPT-2's printable byte alphabet)."""
        token = self._backend.id_to_token(token_id)
        if token is None:
            raise UserError(
                f"token id {token_id} is outside the vocabulary of {self.vocab_size}",
                "ids run from 0 to vocab_size - 1",
            )
        return token

    def token_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it, special tokens included."""
        return self._backend.token_to_id(token)

    @cached_property
    def target(self) -> Tokenizer:
        """The tokenizer of the model's outputs: this one, except for Marian's two models over one vocabulary."""
        if self.target_json is None:
            return self
        return Tokenizer(self.target_json, kind=self.kind, special=self.special)

    # --- vocabulary and files
    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token as the vocabulary writes it, and its id; special tokens included."""
        return self._backend.get_vocab(with_added_tokens=True)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the greatest id."""
        return max(self.vocabulary.values()) + 1

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of tokenizer.json without its post-processor, on which ids of texts do not depend."""
        contents = [self.parsed_json | {"post_processor": None}]
        if self.target_json is not None:
            contents.append(json.loads(self.target_json) | {"post_processor": None})
        return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()

    def save(
        self,
        folder: str | Path,
        token_types: bool = False,
        *,
        pad_with_eos: bool = False,
        own_chat_template: bool = True,
    ) -> None:
        """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja, as
        transformers reads them; `token_types` where the model has token type embeddings, `pad_with_eos` where other
        programs pad batches for it with EOS if it has no PAD; without `own_chat_template` for a model that reads no
        conversations, so that only a template of a publisher's is written.
        """
        is_own = self.special.is_parakit_default
        write_tokenizer_files(
            Path(folder),
            tokenizer_json=self.json,
            target_json=self.target_json,
            kind=self.kind,
            special=self.special,
            chat_template=self.chat_template if own_chat_template or not is_own else None,
            named_templates=self.named_templates,
            chat_date=dict(self.template_variables)["date"] if self.shows_date else None,
            token_types=token_types,
            pad_with_eos=pad_with_eos,
            published=self.published,
        )

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a folder with a tokenizer, Parakit's or third-party: a tokenizer.json, or the files of GPT-2, BERT, T5,
        Llama or Marian. Runs no code from it; `UserError` when it holds none, `CorruptArtifact` when it is unreadable.
        """
        files = TokenizerFiles.read(Path(folder))
        with corrupt_on_failure(files.source):
            tokenizer = cls(
                files.json,
                kind=files.kind,
                special=files.special,
                chat_template=files.chat_template,
                named_templates=files.named_templates,
                chat_date=files.chat_date,
                target_json=files.target_json,
                published=files.published,
            )
            tokenizer.parsed_json = files.parsed
            for token in tokenizer.parsed_json.get("added_tokens") or []:
                if tokenizer.token_id(token["content"]) != token["id"]:
                    raise ValueError(f"the added token {token['content']!r} cannot have the id {token['id']}")
        return tokenizer
