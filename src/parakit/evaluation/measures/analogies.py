"""Analogies of words: king is to man as queen is to ... (Mikolov et al. 2013), by the vector arithmetic of 3CosAdd (Levy &
Goldberg 2014).

The answer to "a is to b as c is to?" is the word whose vector is closest, by cosine, to b - a + c among all words of the
question file but the three. Embedders and encoders give vectors of words; of a decoder the input embeddings count, of the
words that are one token.
"""

from __future__ import annotations

import numpy as np

from parakit.common.errors import UserError
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.measures.rows import draw, find_file, protocol
from parakit.evaluation.results import BenchmarkResult, Item, summarize_items
from parakit.inference.prediction.analogies import closest, read_analogies, to_unit
from parakit.inference.prediction.embeddings import embed
from parakit.model.heads import LanguageModel

FILES = ("word_analogy/questions-words.txt.gz", "word_analogy/questions-words.txt")


def measure_analogies(given: MeasureInput) -> BenchmarkResult:
    """Accuracy by category; needs `word_analogy/questions-words.txt.gz` in the data.

    `settings` has the number of questions, and of those that the model has all four words of.
    """
    every = read_analogies(find_file(given, "analogies", *FILES))
    words = sorted({word for one in every for word in one[:4]})
    known, vectors = _vectors(given, words)
    index = {word: i for i, word in enumerate(known)}
    covered = [one for one in every if all(word in index for word in one[:4])]
    if not covered:
        raise UserError(
            "the model has no vectors for the words of any analogy",
            "a tokenizer that has few words as single tokens cannot be measured like this",
        )
    drawn = draw(covered, given, "analogies", lambda one: one.group)
    if given.advance is not None:
        given.advance(len(drawn))
    ids = np.array([[index[word] for word in one[:4]] for one in drawn])
    answers = closest(vectors, ids)
    numbers = {one: i for i, one in enumerate(every)}
    items = [
        Item(
            str(numbers[one]),
            f"{one.a} is to {one.b} as {one.c} is to",
            one.d,
            known[answer],
            {"accuracy": float(known[answer] == one.d)},
            one.group,
        )
        for one, answer in zip(drawn, answers.tolist(), strict=True)
    ]
    settings = {"n_questions": len(every), "n_covered": len(covered), "n_words": len(known)}
    found = protocol(
        "analogies", given, every, (item.prompt for item in items), chat=False, settings=settings
    )
    return summarize_items(found, items, "accuracy")


def _vectors(given: MeasureInput, words: list[str]) -> tuple[list[str], np.ndarray]:
    """The words that have a vector, and their unit vectors (W, D) float32."""
    if not isinstance(given.model, LanguageModel):
        return words, to_unit(embed(given.model, given.tokenizer, words, normalize=True))
    table = given.model.trunk.token_embedding.weight.detach()
    found = {word: given.tokenizer.encode(f" {word}") for word in words}
    known = [word for word, ids in found.items() if len(ids) == 1]
    rows = table[[found[word][0] for word in known]].float().cpu().numpy() if known else np.zeros((0, 1))
    return known, to_unit(rows)
