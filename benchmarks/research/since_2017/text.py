"""The text of the road: books as bytes, a training and a held-out file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.data.documents import Document

END = 256  # stands between documents
N_BYTES = {"train": 2_000_000, "validation": 400_000}  # as much as the time lets every model see


def prepare(books: Path, folder: Path) -> Path:
    """Read the books into `folder`: train.bytes and validation.bytes, and where their documents begin."""
    config = TextConfig(paths=(str(books),), exclude=("SOURCE.txt",), validation_fraction=0.05)
    corpus = prepare_corpus(config, folder / "corpus")
    for split, n_bytes in N_BYTES.items():
        texts = list(_cut(iter_corpus(corpus, split), n_bytes))
        (folder / f"{split}.bytes").write_bytes(b"".join(texts))
        np.save(folder / f"{split}.lengths.npy", np.array([len(text) for text in texts]))
    return folder


def _cut(documents: Iterable[Document], n_bytes: int) -> Iterator[bytes]:
    """The first `n_bytes` of the documents, every fifth of them, so that many books are among them."""
    left = n_bytes
    for document in islice(documents, 0, None, 5):
        text = document.text.encode()[:left]
        left -= len(text)
        if text:
            yield text


def token_ids(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Bytes as ids with END before and after each document, and the documents' offsets."""
    data = np.fromfile(folder / f"{split}.bytes", np.uint8).astype(np.uint16)
    lengths = np.load(folder / f"{split}.lengths.npy")
    ends = np.cumsum(lengths)
    with_ends = np.insert(data, np.concatenate([[0], np.repeat(ends[:-1], 2), ends[-1:]]), END)
    return with_ends, np.concatenate([[0], np.cumsum(lengths + 2)])
