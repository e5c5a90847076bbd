"""Example shards: the examples of a task as token ids on disk, memory-mapped.

Per split and text one flat file of ids and the offsets at which examples begin, and of lists of texts (negatives) also the
numbers of the texts at which examples begin; classes and scores as an array, tags as
one number for each token (-1: not the first token of a word), labels as a 0 or 1 for each, answers as the first and the
last of the context's tokens (-1: no answer). Texts are stored without special tokens; the templates
that add them are in the index. Example i of a split is row i of the examples it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from parakit.common.artifacts import open_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, read_json
from parakit.tokens.tokenizer.special_tokens_template import SpecialTokensTemplate

INDEX = "index.json"
NEGATIVES = "negatives"
_HINT = "restore it from a copy, or delete the folder and encode the examples again"


@dataclass(frozen=True)
class EncodedTexts:
    """One text of every example."""

    token_ids: np.ndarray  # (n_tokens,) uint16 or uint32
    offsets: np.ndarray  # (n_examples + 1,) int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, example: int) -> np.ndarray:
        return self.token_ids[self.offsets[example] : self.offsets[example + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n_examples,) tokens of each."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class EncodedLists:
    """A list of texts of every example: those of example i have the numbers `begins[i]` to `begins[i + 1] - 1`."""

    texts: EncodedTexts
    begins: np.ndarray  # (n_examples + 1,) int64


@dataclass(frozen=True)
class ExampleShards:
    """One split, opened. `texts` by key: text, text_pair, words, source, target, positive, question, context."""

    task: str
    texts: dict[str, EncodedTexts]
    # (n_examples,) int64 classes or float32 scores; (n_tokens,) int64 tags; (n_examples, L) uint8 labels;
    # (n_examples, 2) int64 first and last token of an answer; or none
    targets: np.ndarray | None
    labels: tuple[str, ...]  # names of the classes or tags
    templates: tuple[SpecialTokensTemplate, SpecialTokensTemplate]  # of one text, of two
    vocab_size: int
    pad_id: int | None
    eos_id: int | None
    tokenizer_digest: str = ""
    negatives: EncodedLists | None = None
    """Hard negatives of pairs, where a row has some."""

    @property
    def n_examples(self) -> int:
        """Examples of the split."""
        return len(next(iter(self.texts.values())))

    @classmethod
    def open(cls, path: str | Path, split: str, verify: bool = True) -> ExampleShards:
        """Map a split. `UserError` when there is none; `CorruptArtifact` naming the file when bytes or sizes differ from
        those written.
        """
        path = Path(path)
        open_artifact(path, "example_shards", verify=verify)
        index = read_json(path / INDEX)
        if split not in index["splits"]:
            raise UserError(f"{path}: has no split {split!r}", f"it has {', '.join(index['splits'])}")
        entry, n_tokens = index["splits"][split], dict(index["splits"][split]["tokens"])
        negatives = None
        if NEGATIVES in n_tokens:
            begins = _array(path / f"{split}.{NEGATIVES}.begins.npy", entry["examples"] + 1)
            name = f"{split}.{NEGATIVES}"
            encoded = _texts(path, name, index["dtype"], int(begins[-1]), n_tokens.pop(NEGATIVES))
            negatives = EncodedLists(encoded, begins)
        texts = {
            key: _texts(path, f"{split}.{key}", index["dtype"], entry["examples"], n)
            for key, n in n_tokens.items()
        }
        targets = None
        if index["targets"]:
            n = entry["tokens"]["words"] if index["task"] == "tag" else entry["examples"]
            columns = {"multi_label": (len(index["labels"]),), "answer": (2,)}.get(index["task"], ())
            targets = _array(path / f"{split}.targets.npy", n, *columns)
        single, pair = map(SpecialTokensTemplate.from_dict, index["templates"])
        return cls(
            task=index["task"],
            texts=texts,
            targets=targets,
            labels=tuple(index["labels"]),
            templates=(single, pair),
            vocab_size=index["vocab_size"],
            pad_id=index["pad_id"],
            eos_id=index["eos_id"],
            tokenizer_digest=index["tokenizer_digest"],
            negatives=negatives,
        )


def read_index(path: str | Path) -> JsonObject:
    """The index of a folder of example shards: `task`, `family`, `labels`, and counts by split."""
    return read_json(open_artifact(path, "example_shards", verify=False).path / INDEX)


def _texts(path: Path, name: str, dtype: str, n_examples: int, n_tokens: int) -> EncodedTexts:
    offsets = _array(path / f"{name}.offsets.npy", n_examples + 1)
    if offsets[-1] != n_tokens or (np.diff(offsets) < 0).any():
        raise CorruptArtifact(f"{path / name}.offsets.npy: does not fit the index", _HINT)
    file, size = path / f"{name}.bin", n_tokens * np.dtype(dtype).itemsize
    if not file.is_file() or file.stat().st_size != size:
        n_bytes = file.stat().st_size if file.is_file() else "no"
        raise CorruptArtifact(f"{file}: has {n_bytes} bytes instead of {size}", _HINT)
    ids = np.memmap(file, dtype=dtype, mode="r", shape=(n_tokens,)) if n_tokens else np.empty(0, dtype)
    return EncodedTexts(ids, offsets)


def _array(path: Path, n: int, *columns: int) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r" if n else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"{path}: not readable: {error}", _HINT) from None
    if values.shape != (n, *columns):
        raise CorruptArtifact(f"{path}: has shape {values.shape} instead of {(n, *columns)}", _HINT)
    return values
