"""Token shards: a corpus as ids on disk, memory-mapped, with document boundaries.

Per split one flat file of ids (uint16 where the vocabulary allows, else uint32), the offsets at which documents begin,
and for conversations a loss mask. A document has the ids that its tokenizer puts before and after a text; for decoders
EOS ends it in any case. Parakit's own tokenizers: BOS, its ids, EOS; for encoders CLS, its ids, SEP; for encoder-decoders
its ids, EOS. The chat template encodes conversations. `n_bytes` counts the raw text of the counted tokens: whole documents
(without the first token where nothing is before it), or the assistant's content. Shards are written in bounded memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, read_json, save_array, write_array, write_json_atomic
from parakit.common.progress import Bar
from parakit.common.settings import Family
from parakit.data.conversations.conversation import Conversation
from parakit.data.documents import Document
from parakit.data.mixture import MAX_SOURCES, Mixture
from parakit.data.split_writing import largest
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import supported_form
from parakit.tokens.mapped_array import RESTORE, map_array
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_INDEX = "index.json"
_CHARS_PER_CHUNK = 4_000_000
ShardItem = Document | Conversation


@dataclass(frozen=True)
class TokenShards:
    """One split, memory-mapped or in memory."""

    token_ids: np.ndarray  # (n_tokens,) uint16 or uint32
    offsets: np.ndarray  # (n_documents + 1,) int64
    loss_mask: np.ndarray | None = None  # (n_tokens,) uint8; None: everything but each first token counts
    n_bytes: int = 0
    vocab_size: int = 0
    pad_id: int | None = None
    tokenizer_digest: str = ""
    family: Family = "decoder"  # determines the special tokens around each document
    has_context_turns: bool = False  # some of the assistant's turns have weight 0
    chat_date: str | None = None  # (ISO) the date that the chat template shows, where it shows one
    corpus: Mapping[str, Any] = field(
        default_factory=dict
    )  # `data.corpus.FACTS` of the corpus, files by tokens
    mixture: Mixture | None = None  # of a training split: how its sources are mixed
    source_of: np.ndarray | None = (
        None  # (n_documents,) uint8: the source of each document, by its place in the mixture
    )
    source_bytes: tuple[int, ...] = ()  # `n_bytes` by source
    end_ids: tuple[int, ...] = ()  # counted tokens that are no text: a document's end, the end of a turn

    @property
    def n_tokens(self) -> int:
        """Stored tokens, BOS and EOS included."""
        return int(self.offsets[-1])

    @property
    def n_documents(self) -> int:
        """Documents or conversations."""
        return len(self.offsets) - 1

    @cached_property
    def n_counted(self) -> int:
        """Tokens that a loss over the whole split counts: all but each document's first, or those of the loss
        mask.
        """
        first = self.offsets[:-1][np.diff(self.offsets) > 0]
        if self.loss_mask is None:
            return self.n_tokens - len(first)
        return int(np.count_nonzero(self.loss_mask)) - int(np.count_nonzero(self.loss_mask[first]))

    @classmethod
    def open(cls, path: str | Path, split: str, verify: bool = True) -> TokenShards:
        """Map a split; of shards on object storage (s3://...) ids are read by range as they are used. `UserError` when
        there is none; `CorruptArtifact` naming the file when bytes or sizes differ from those written.
        """
        path = open_artifact(path, "shards", verify=verify).path
        index = read_json(path / _INDEX)
        if split not in index["splits"]:
            raise UserError(f"{path}: has no split {split!r}", f"it has {', '.join(index['splits'])}")
        entry = index["splits"][split]
        offsets_path = path / f"{split}.offsets.npy"
        try:
            offsets = np.load(offsets_path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CorruptArtifact(f"{offsets_path}: not readable: {error}", RESTORE) from None
        n_tokens = entry["n_tokens"]
        if (
            len(offsets) != entry["n_documents"] + 1
            or offsets[-1] != n_tokens
            or (np.diff(offsets) < 0).any()
        ):
            raise CorruptArtifact(f"{offsets_path}: does not fit the index", RESTORE)
        loss_mask = (
            map_array(path / f"{split}.loss_mask.bin", "uint8", n_tokens) if entry["has_loss_mask"] else None
        )
        return cls(
            token_ids=map_array(path / f"{split}.bin", index["dtype"], n_tokens),
            offsets=offsets,
            loss_mask=loss_mask,
            n_bytes=entry["n_bytes"],
            vocab_size=index["vocab_size"],
            pad_id=index["pad_id"],
            tokenizer_digest=index["tokenizer_digest"],
            family=index["family"],
            has_context_turns=entry.get("has_context_turns", False),
            chat_date=index.get("chat_date"),
            corpus=index.get("corpus", {}),
            mixture=Mixture.parse(index["mixture"], str(path / _INDEX))
            if "mixture" in index and split == "train"
            else None,
            source_of=map_array(path / f"{split}.sources.bin", "uint8", entry["n_documents"])
            if "source_bytes" in entry
            else None,
            source_bytes=tuple(entry.get("source_bytes", ())),
            end_ids=tuple(entry["end_ids"])
            if "end_ids" in entry
            else _last_id(path / f"{split}.bin", index, entry),
        )


def _last_id(path: Path, index: JsonObject, entry: JsonObject) -> tuple[int, ...]:
    """The end tokens of shards whose index does not name them: a document's last id was its EOS."""
    if entry["has_loss_mask"] or not entry["n_tokens"]:
        return ()
    return (int(map_array(path, index["dtype"], entry["n_tokens"])[-1]),)


def write_shards(
    splits: Mapping[str, Iterable[ShardItem]],
    tokenizer: Tokenizer,
    path: str | Path,
    parents: Sequence[str | Path] = (),
    *,
    family: Family = "decoder",
    overwrite: bool = False,
    progress: Bar | None = None,
    corpus: JsonObject | None = None,
    mixture: Mixture | None = None,
    source_of: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write one shard set from `splits`: name -> documents or conversations.

    `parents` are the artifact folders that it is made from. `family` is the family of models that will read it, which
    determines the special tokens around a document. `progress` advances by bytes of text. `corpus` has the facts of the
    corpus that the doctor checks. `mixture`: how its sources are mixed; `source_of`: of each split, the source of every
    document by its place in the mixture.
    """
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    lineage = Lineage("shards", {"tokenizer": tokenizer.digest, "dtype": dtype}, list(parents))
    if family != "decoder":
        lineage.config["family"] = family
    with writing_artifact(path, lineage, overwrite) as folder:
        by_file = {name: Counter[str]() for name in splits}
        sources = {name: np.asarray(numbers, np.uint8) for name, numbers in (source_of or {}).items()}
        entries = {
            name: _write_split(
                folder, name, items, tokenizer, dtype, family, progress, by_file[name], sources.get(name)
            )
            for name, items in splits.items()
        }
        index = {
            "splits": entries,
            "dtype": dtype,
            "vocab_size": tokenizer.vocab_size,
            "pad_id": tokenizer.pad_id,
            "tokenizer_digest": tokenizer.digest,
            "family": family,
        }
        if tokenizer.shows_date and tokenizer.chat_date is not None:
            index["chat_date"] = lineage.result["chat_date"] = tokenizer.chat_date
        if mixture:
            index["mixture"] = mixture.model_dump(mode="json")
        if corpus:
            files = by_file.get("train") if corpus.get("n_files") else None
            index["corpus"] = corpus | ({"largest_files": largest(files, "tokens")} if files else {})
        write_json_atomic(folder / _INDEX, index)
        lineage.result.update(entries)
    return Path(path)


def _write_split(
    folder: Path,
    name: str,
    items: Iterable[ShardItem],
    tokenizer: Tokenizer,
    dtype: str,
    family: Family,
    progress: Bar | None,
    by_file: Counter[str],
    source_of: np.ndarray | None = None,
) -> JsonObject:
    lengths, n_bytes, mask_path = [np.zeros(1, np.int64)], 0, folder / f"{name}.loss_mask.bin"
    has_context_turns = False
    end_ids: set[int] = set()
    sizes: list[list[int]] = []
    with open(folder / f"{name}.bin", "wb") as ids_file, open(mask_path, "wb") as mask_file:
        for chunk in _chunks(items):
            conversations = [item for item in chunk if isinstance(item, Conversation)]
            documents = [item for item in chunk if isinstance(item, Document)]
            if conversations and documents:
                raise UserError(
                    f"split {name!r} mixes documents and conversations", "write them as two shard sets"
                )
            has_context_turns = has_context_turns or any(map(_has_context_turns, conversations))
            ids, masks, n_chunk_bytes = (
                _encode_conversations(conversations, tokenizer, family)
                if conversations
                else _encode_documents(documents, tokenizer, family)
            )
            for document, one in zip(documents, ids, strict=False):  # there are none of conversations
                by_file[document.file] += len(one)
            if source_of is not None:
                sizes.append(_document_bytes(documents, ids, tokenizer, family))
            write_array(ids_file, np.concatenate(ids).astype(dtype))
            if masks:
                write_array(mask_file, np.concatenate(masks))
            end_ids |= _end_ids(ids, masks, tokenizer, family)
            lengths.append(np.array([len(one) for one in ids], np.int64))
            n_bytes += n_chunk_bytes
            if progress is not None:
                progress.advance(n_chunk_bytes)
    offsets = np.cumsum(np.concatenate(lengths))
    has_loss_mask = mask_path.stat().st_size > 0
    if not has_loss_mask:
        mask_path.unlink()
    save_array(folder / f"{name}.offsets.npy", offsets)
    entry: JsonObject = {"has_context_turns": True} if has_context_turns else {}
    if source_of is not None:
        (folder / f"{name}.sources.bin").write_bytes(source_of.tobytes())
        known = source_of < MAX_SOURCES
        by_source = np.bincount(source_of[known], np.concatenate([[], *sizes])[known])
        entry["source_bytes"] = by_source.astype(np.int64).tolist()
    return entry | {
        "n_documents": len(offsets) - 1,
        "n_tokens": int(offsets[-1]),
        "n_bytes": n_bytes,
        "has_loss_mask": has_loss_mask,
        "end_ids": sorted(end_ids),
    }


def _end_ids(
    ids: list[np.ndarray], masks: list[np.ndarray], tokenizer: Tokenizer, family: Family
) -> set[int]:
    """The ids that a loss counts and no text encodes to: those after each document, or a conversation's control tokens."""
    if not masks:
        return set(document_boundaries(tokenizer, family)[1])
    counted = np.unique(np.concatenate(ids)[np.concatenate(masks) > 0])
    return set(counted.tolist()) & tokenizer.control_ids


def _has_context_turns(conversation: Conversation) -> bool:
    return any(m.role == "assistant" and m.weight == 0 for m in conversation.messages)


def _chunks(items: Iterable[ShardItem]) -> Iterator[list[ShardItem]]:
    """Lists of items with a few million characters, which bounds memory."""
    chunk: list[ShardItem] = []
    n_chars = 0
    for item in items:
        chunk.append(item)
        n_chars += 100 + (
            len(item.text) if isinstance(item, Document) else sum(len(m.content) for m in item.messages)
        )
        if n_chars >= _CHARS_PER_CHUNK:
            yield chunk
            chunk, n_chars = [], 0
    if chunk:
        yield chunk


def _encode_documents(
    documents: list[Document], tokenizer: Tokenizer, family: Family
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    boundaries = document_boundaries(tokenizer, family)
    ids, n_bytes = encode_between(tokenizer, documents, boundaries)
    return ids, [], n_bytes if family == "decoder" else sum(document.n_bytes for document in documents)


def encode_between(
    tokenizer: Tokenizer, documents: Sequence[Document], boundaries: tuple[list[int], list[int]]
) -> tuple[list[np.ndarray], int]:
    """The ids of each document with those of `boundaries` before and after, and the bytes of the text that a decoder
    predicts: the first token is not, where no id is before it.
    """
    before, after = (np.array(ids, np.uint32) for ids in boundaries)
    encoded = tokenizer.encode_bulk([document.text for document in documents])
    n_bytes = sum(document.n_bytes for document in documents)
    if not len(before):
        n_bytes -= sum(_n_bytes(tokenizer, int(one[0])) for one in encoded if len(one))
    return [np.concatenate([before, one, after]) for one in encoded], n_bytes


def _document_bytes(
    documents: Sequence[Document], ids: Sequence[np.ndarray], tokenizer: Tokenizer, family: Family
) -> list[int]:
    """The bytes of each document that a model of `family` predicts; see `encode_between`."""
    before, after = document_boundaries(tokenizer, family)
    whole = bool(before) or family != "decoder"
    return [
        document.n_bytes - (0 if whole or len(one) == len(after) else _n_bytes(tokenizer, int(one[0])))
        for document, one in zip(documents, ids, strict=True)
    ]


def _n_bytes(tokenizer: Tokenizer, token_id: int) -> int:
    """Bytes of a token's text."""
    if tokenizer.kind == "byte_bpe":
        return len(tokenizer.token_bytes[token_id])
    return len(tokenizer.decode([token_id]).encode())


def document_boundaries(tokenizer: Tokenizer, family: Family) -> tuple[list[int], list[int]]:
    """The ids before and after a document; `UserError` where the tokenizer lacks them."""
    if family == "decoder":
        if tokenizer.eos_id is None:
            raise UserError(
                "this tokenizer has no EOS, so documents would have no end", "use one that parakit trained"
            )
        before, after = text_boundaries(tokenizer)
        return before, after if after[-1:] == [tokenizer.eos_id] else [*after, tokenizer.eos_id]
    before, after = text_boundaries(tokenizer, family)
    if not after or (family == "encoder" and not before):
        raise UserError(
            f"this tokenizer adds no special tokens to a text, and an {family} needs them to separate documents",
            "use one that parakit trained, or one made for such models",
        )
    return before, after


def _encode_conversations(
    conversations: list[Conversation], tokenizer: Tokenizer, family: Family
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    if family != "decoder":
        raise UserError(
            f"conversations are for decoders, and the family is {family}",
            "write documents, or use the family decoder",
        )
    written = [supported_form(tokenizer, one) for one in conversations]
    chats = [compile_chat(tokenizer, one) for one in written]
    contents = (m.content for c in written for m in c.messages if m.role == "assistant" and m.weight)
    ids = [np.array(chat.token_ids, np.uint32) for chat in chats]
    return (
        ids,
        [np.array(chat.loss_mask, np.uint8) for chat in chats],
        sum(len(text.encode()) for text in contents),
    )
