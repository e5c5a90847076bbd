"""A tiny fastText model of languages in the format of its binary files (version 12): words with vectors, one label a language.

The text's vector is the mean of its words', and the label with the greatest product wins by a softmax.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_MAGIC, _VERSION = 793_712_314, 12
_SOFTMAX, _SUPERVISED = 3, 3


def write_model(path: Path, languages: Mapping[str, str]) -> None:
    """A model of these languages, each known by its words."""
    words = [(word, i) for i, text in enumerate(languages.values()) for word in text.split()]
    n = len(languages)
    dim, end_of_line = n, [("</s>", None)]
    entries = [*end_of_line, *words]
    vectors = np.zeros((len(entries), dim), "<f4")
    for row, (_, language) in enumerate(entries):
        if language is not None:
            vectors[row, language] = 1
    settings = (dim, 5, 1, 1, 5, 1, _SOFTMAX, _SUPERVISED, 0, 0, 0, 100)
    with open(path, "wb") as file:
        file.write(struct.pack("<2i12id", _MAGIC, _VERSION, *settings, 1e-4))
        file.write(struct.pack("<3i2q", len(entries) + n, len(entries), n, len(entries), -1))
        for word, _ in entries:
            file.write(word.encode() + struct.pack("<xqb", 1, 0))
        for code in languages:
            file.write(f"__label__{code}".encode() + struct.pack("<xqb", 1, 1))
        for matrix in (vectors, np.eye(n, dtype="<f4") * 20):
            file.write(struct.pack("<?2q", False, *matrix.shape) + matrix.tobytes())
