"""A needle in a haystack: one sentence with a number inside a long text, for which the model is asked at the end (Kamradt
2023), by the length of the text in the model's tokens and the depth of the needle.

The haystack is the primer's stories, so no data is needed, and none of its sentences has a number of this kind. Other
numbers about other towns are in the text, too: a model that copies any number is not right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.measures.answers import as_prompt, generate_answers
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.measures.rows import draw, protocol
from parakit.evaluation.results import BenchmarkResult, Item, summarize_items
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.completion import prompt_ids
from parakit.primer.seeded_random import Random
from parakit.primer.stories import story

LENGTHS = tuple(2**n for n in range(8, 18))
"""In tokens of the whole prompt; those count that fit in the context window with the answer."""
DEPTHS = (0, 25, 50, 75, 100)  # per cent of the haystack's sentences before the needle
N_ITEMS = 4  # of each length and depth
MAX_NEW_TOKENS = 16
TOWNS = ("Ostrava", "Lisbon", "Turin", "Bergen", "Malmo", "Krakow", "Ghent", "Porto")
NEEDLE = "The secret number of {town} is {number}."
QUESTION = "What is the secret number of {town}?"
ANSWER = "The secret number of {town} is"


class NeedleItem(NamedTuple):
    """A prompt with a needle, the number in it, and where it is."""

    id: str
    prompt: str
    number: str
    group: str


def measure_needle(given: MeasureInput) -> BenchmarkResult:
    """The share of numbers that are found, by `LENGTH tokens, DEPTH %`."""
    window = given.model.config.max_seq_len
    lengths = [length for length in LENGTHS if length + MAX_NEW_TOKENS <= window]
    if not lengths:
        raise UserError(
            f"the shortest haystack has {LENGTHS[0]} tokens, and the context window holds {window}",
            "measure a model with a larger window",
        )
    cells = [(length, depth, number) for length in lengths for depth in DEPTHS for number in range(N_ITEMS)]
    chosen = draw(cells, given, "needle", lambda cell: _group(*cell[:2]))
    drawn = [_needle(given, *cell) for cell in chosen]
    stop = () if given.chat else ("\n",)
    config = SamplingConfig(temperature=0.0, max_new_tokens=MAX_NEW_TOKENS, stop=stop)
    answers = generate_answers(given, [one.prompt for one in drawn], config)
    items = [
        Item(one.id, one.prompt, one.number, text, {"found": float(_has(text, one.number))}, one.group)
        for one, text in zip(drawn, answers.first, strict=True)
    ]
    found = protocol("needle", given, cells, (one.prompt for one in drawn))
    return summarize_items(found, items, "found", n_truncated=answers.n_truncated)


def _group(length: int, depth: int) -> str:
    return f"{length:>6} tokens, {depth:>3} %"


def _has(text: str, number: str) -> bool:
    """Whether the first number of the text is this one."""
    digits = "".join(sign if sign.isdigit() else " " for sign in text).split()
    return bool(digits) and digits[0] == number


def _needle(given: MeasureInput, length: int, depth: int, number: int) -> NeedleItem:
    generator = rng(given.seed, "needle", length, depth, number)
    towns = [TOWNS[i] for i in generator.permutation(len(TOWNS))[:3]]
    numbers = [str(n) for n in generator.choice(9000, 3, replace=False) + 1000]
    needles = [NEEDLE.format(town=town, number=n) for town, n in zip(towns, numbers, strict=True)]
    sentences = _sentences(given.seed, length, depth, number)
    low, high = 0, 1
    taken: list[str] = []

    def prompt(n: int) -> str:
        while len(taken) < n:
            taken.append(next(sentences))
        text = list(taken[:n])
        text.insert(round(depth / 100 * n), needles[0])
        # the other needles a third and two thirds of the way
        for at, other in ((n // 3, needles[1]), (2 * n // 3, needles[2])):
            text.insert(at if depth else at + 1, other)
        question = QUESTION.format(town=towns[0])
        if given.chat:
            return f"{' '.join(text)}\n\n{question}"
        return f"{' '.join(text)}\n\nQuestion: {question}\nAnswer: {ANSWER.format(town=towns[0])}"

    def fits(n: int) -> bool:
        return len(prompt_ids(given.tokenizer, as_prompt(given, prompt(n)))) <= length

    if not fits(low):
        raise UserError(
            f"needle and question take more than {length} tokens of this tokenizer",
            "a tokenizer with so few words cannot be measured like this",
        )
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return NeedleItem(f"{length}/{depth}/{number}", prompt(low), numbers[0], _group(length, depth))


def _sentences(seed: int, length: int, depth: int, number: int) -> Iterator[str]:
    """The stories' sentences, without end."""
    random = Random(seed, "needle", length, depth, number)
    while True:
        yield from (f"{one}." for one in story(random).removesuffix(".").split(". "))
