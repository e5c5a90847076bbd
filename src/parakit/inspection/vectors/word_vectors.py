"""Vectors of words: nearest neighbours, analogies, and how many analogies are right.

Analogies are answered by 3CosAdd: see `inference.prediction.analogies`. Vectors of a model are the rows of its token
embedding, or of its output matrix, for the tokens that are whole words.

Shapes: N words, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.inference.prediction.analogies import Analogy, closest, to_unit

if TYPE_CHECKING:
    from parakit.inference.loaded_model import Model
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

VectorTable = Literal["input", "output"]


@dataclass(frozen=True)
class Neighbour:
    """A word with the cosine of its vector and the query's."""

    word: str
    cosine: float


@dataclass(frozen=True)
class AnalogyScore:
    """How many questions of a category are right, of those whose four words all have vectors (`n`), of `n_questions`."""

    category: str
    n_correct: int
    n: int
    n_questions: int

    @property
    def accuracy(self) -> float:
        """Of the questions that could be answered; 0 without any."""
        return self.n_correct / self.n if self.n else 0.0


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors (N, D); `words` are distinct."""

    words: tuple[str, ...]
    vectors: np.ndarray = field(repr=False)

    @cached_property
    def unit(self) -> np.ndarray:
        """The vectors (N, D) float32 at length 1; a zero vector stays zero."""
        return to_unit(self.vectors).astype(np.float32)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    def vector(self, word: str) -> np.ndarray:
        """The unit vector (D,) of a word. `UserError` with the nearest spelling for one that has none."""
        if word not in self.rows:
            close = closest_match(word, self.words)
            raise UserError(
                f"no vector for the word {word!r}: it is not one token of the vocabulary ({len(self.words):,} words)",
                f"did you mean {close!r}?" if close else "choose a more frequent word",
            )
        return self.unit[self.rows[word]]

    def neighbours(
        self, query: str | np.ndarray, n: int = 10, exclude: Collection[str] = ()
    ) -> list[Neighbour]:
        """The `n` words nearest to a word (itself excluded) or to a vector (D,), nearest first."""
        vector = self.vector(query) if isinstance(query, str) else query
        excluded = {*exclude, *((query,) if isinstance(query, str) else ())}
        scores = self.unit @ (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
        scores[[self.rows[word] for word in excluded if word in self.rows]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:n]
        return [
            Neighbour(self.words[row], float(scores[row]))
            for row in best.tolist()
            if np.isfinite(scores[row])
        ]

    def analogy(self, a: str, b: str, c: str, n: int = 10) -> list[Neighbour]:
        """a is to b as c is to ...: the `n` words nearest to b - a + c, without the three."""
        query = self.vector(b) - self.vector(a) + self.vector(c)
        return self.neighbours(query, n, exclude=(a, b, c))

    def folded(self) -> WordVectors:
        """One vector for each spelling in lower case: that of the first word of it, which in a vocabulary ordered by
        frequency is the most frequent.
        """
        first: dict[str, int] = {}
        for row, word in enumerate(self.words):
            first.setdefault(word.lower(), row)
        return WordVectors(tuple(first), self.vectors[list(first.values())])

    def analogy_scores(
        self, questions: Sequence[Analogy], *, case_insensitive: bool = True
    ) -> list[AnalogyScore]:
        """The score of each category, by 3CosAdd over all words. With `case_insensitive` words and questions are in lower
        case, as in word2vec's own evaluation.
        """
        if case_insensitive:
            lowered = [
                Analogy(one.a.lower(), one.b.lower(), one.c.lower(), one.d.lower(), one.group)
                for one in questions
            ]
            return self.folded().analogy_scores(lowered, case_insensitive=False)
        scores = []
        for group in dict.fromkeys(one.group for one in questions):
            of_group = [one[:4] for one in questions if one.group == group]
            known = [four for four in of_group if all(word in self.rows for word in four)]
            rows = np.array([[self.rows[word] for word in four] for four in known], np.int64).reshape(-1, 4)
            n_correct = int((closest(self.unit, rows) == rows[:, 3]).sum())
            scores.append(AnalogyScore(group, n_correct, len(rows), len(of_group)))
        return scores


def total(scores: Iterable[AnalogyScore], name: str = "all") -> AnalogyScore:
    """Several categories as one."""
    found = list(scores)
    return AnalogyScore(
        name, *(sum(getattr(score, key) for score in found) for key in ("n_correct", "n", "n_questions"))
    )


def word_vectors(model: Model, table: VectorTable = "input") -> WordVectors:
    """The vectors of the tokens that are whole words: rows of the token embedding, or of the output matrix ("output").

    Where two tokens are the same word, the first counts. `UserError` for a model without an output matrix, and for a
    tokenizer whose tokens are no words.
    """
    matrix = embedding_table(model, table)
    rows = word_rows(model.tokenizer)
    rows = {word: row for word, row in rows.items() if row < len(matrix)}
    if not rows:
        raise UserError(
            f"{model.path}: no token of its vocabulary is a whole word",
            "compare texts instead: `parakit inspect embeddings MODEL --similar TEXT TEXT`",
        )
    return WordVectors(tuple(rows), matrix[list(rows.values())])


def embedding_table(model: Model, table: VectorTable = "input") -> np.ndarray:
    """The rows (V, D) float32 of the token embedding or of the output matrix; quantized ones dequantized."""
    from parakit.model.heads import TokenPredictor
    from parakit.model.quantized.layers import weight_like

    module: Any
    if table == "input":
        module = model.network.trunk.token_embedding
    elif isinstance(model.network, TokenPredictor):
        module = model.network.lm_head
    else:
        raise UserError(
            f"{model.path}: has no output matrix: it is {model.kind.description}",
            "take the input embedding: --table input",
        )
    matrix: np.ndarray = weight_like(module).detach().float().cpu().numpy()
    return matrix


def word_rows(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokens that are whole words, by the word: of byte BPE and of tokenizers that mark spaces those that begin with
    one, of WordPiece those that continue none, of words all.
    """
    special = tokenizer.control_ids | set(tokenizer.special_tokens.values())
    prefix = str(tokenizer.parsed_json["model"].get("continuing_subword_prefix") or "##")
    words: dict[str, int] = {}
    for token, row in sorted(tokenizer.vocabulary.items(), key=lambda one: one[1]):
        if row in special:
            continue
        word = token
        if tokenizer.kind == "byte_bpe":
            text = tokenizer.token_bytes[row].decode("utf-8", "ignore")
            word = text[1:] if text.startswith(" ") else ""
        elif tokenizer.kind == "unigram" or token.startswith("\u2581"):
            word = token[1:] if token.startswith("\u2581") else ""
        elif tokenizer.kind == "wordpiece":
            word = "" if token.startswith(prefix) else token
        if word.strip() == word and any(map(str.isalpha, word)):
            words.setdefault(word, row)
    return words
