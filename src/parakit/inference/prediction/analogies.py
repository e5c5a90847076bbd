"""Analogies of words: king is to man as queen is to ... (Mikolov et al. 2013), by the vector arithmetic of 3CosAdd (Levy &
Goldberg 2014).

The answer to "a is to b as c is to?" is the word whose vector is closest, by cosine, to b - a + c, the three excluded.

Shapes: W words, D width, Q questions.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

from parakit.common.errors import UserError

ROWS_AT_ONCE = 1024


class Analogy(NamedTuple):
    """a is to b as c is to d; `group` is its category."""

    a: str
    b: str
    c: str
    d: str
    group: str


def closest(vectors: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """The index of the answer to each question (a, b, c, ...) of indices into unit `vectors` (W, D): (Q, >= 3) -> (Q,)."""
    found = np.empty(len(questions), np.int64)
    for start in range(0, len(questions), ROWS_AT_ONCE):
        part = questions[start : start + ROWS_AT_ONCE]
        a, b, c = (vectors[part[:, i]] for i in range(3))
        similarity = (b - a + c) @ vectors.T  # (rows, W); the length of b - a + c changes no order
        np.put_along_axis(similarity, part[:, :3], -np.inf, axis=1)
        found[start : start + ROWS_AT_ONCE] = similarity.argmax(1)
    return found


def read_analogies(path: Path) -> list[Analogy]:
    """Lines of four words under lines `: CATEGORY`; `UserError` for another line."""
    if not path.is_file():
        raise UserError(f"{path}: no such file", "name a file of analogies, such as questions-words.txt")
    found, group = [], "all"
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        for number, line in enumerate(file, 1):
            words = line.split()
            if words[:1] == [":"]:
                group = " ".join(words[1:])
            elif len(words) == 4:
                found.append(Analogy(words[0], words[1], words[2], words[3], group))
            elif words:
                raise UserError(f"{path.name}, line {number}: {len(words)} words", "an analogy has four")
    return list(dict.fromkeys(found))


def to_unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., D) at length 1; a zero vector stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
