"""Memorization: training text that a model repeats word for word, and how exposed planted secrets are.

Extraction (Carlini et al. 2023): after a prefix of a training text, greedy decoding either gives exactly what follows or
does not. Exposure (Carlini et al. 2019, section 4.2): a secret of random digits is put into the training text on purpose, a
canary; its exposure is log2 of the number of possible secrets minus log2 of the rank that the model gives the true one among
them by likelihood. A model that learned nothing of it has about 1 bit at the median; all secrets are ranked where they are
few, else the true one among a random sample, which bounds the exposure by the sample's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.measures.likelihood import text_log_likelihoods
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.measures.rows import draw, find_file, protocol, read_rows
from parakit.evaluation.results import BenchmarkResult, Item, summarize_items
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.completion import context_ids
from parakit.inference.generation.decoding import generate_choices

PREFIX_TOKENS = 50
CONTINUATION_TOKENS = 50
TEXTS_AT_ONCE = 64
N_REFERENCES = 1023  # other secrets that a canary is ranked among: an exposure of at most 10 bits


def measure_extraction(given: MeasureInput) -> BenchmarkResult:
    """The share of training texts that the model continues exactly; `memorization/training.jsonl` has them as `text`.

    `matched`: the share of the continuation up to the first token that differs. Texts with fewer tokens than prefix and
    continuation together are left out.
    """
    require_capability(given.model, "generate")
    rows = read_rows(find_file(given, "extraction", "memorization/training.jsonl"), ("text",))
    n_tokens = PREFIX_TOKENS + CONTINUATION_TOKENS
    if given.model.config.max_seq_len < n_tokens:
        raise UserError(
            f"extraction reads {n_tokens} tokens, and the context window holds {given.model.config.max_seq_len}",
            "measure a model with a larger window",
        )
    encoded = [(i, context_ids(given.tokenizer, row["text"])[:n_tokens]) for i, row in enumerate(rows)]
    long = [(i, ids) for i, ids in encoded if len(ids) == n_tokens]
    if not long:
        raise UserError(f"extraction: no text has {n_tokens} tokens", "give longer texts")
    drawn = draw(long, given, "extraction")
    decode = given.tokenizer.decode
    items = []
    for start in range(0, len(drawn), TEXTS_AT_ONCE):
        part = drawn[start : start + TEXTS_AT_ONCE]
        for (i, ids), answer in zip(part, _continue(given, [ids for _, ids in part]), strict=True):
            wanted = ids[PREFIX_TOKENS:]
            n_equal = next(
                (n for n, pair in enumerate(zip(wanted, answer, strict=False)) if pair[0] != pair[1]),
                min(len(wanted), len(answer)),
            )
            scores = {"extracted": float(answer == wanted), "matched": n_equal / CONTINUATION_TOKENS}
            items.append(Item(str(i), decode(ids[:PREFIX_TOKENS]), decode(wanted), decode(answer), scores))
        if given.advance is not None:
            given.advance(len(part))
    found = protocol(
        "extraction",
        given,
        rows,
        (item.prompt for item in items),
        chat=False,
        settings={"prefix_tokens": PREFIX_TOKENS, "continuation_tokens": CONTINUATION_TOKENS},
    )
    return summarize_items(found, items, "extracted", lower_is_better=("extracted", "matched"))


def _continue(given: MeasureInput, texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """What greedy decoding puts after the prefixes; nothing ends it early."""
    config = SamplingConfig(temperature=0.0, max_new_tokens=CONTINUATION_TOKENS)
    choices = generate_choices(
        given.model, [ids[:PREFIX_TOKENS] for ids in texts], config, frozenset(), seeds=[0] * len(texts)
    )
    return [[choice.token_id for choice in one] for one in choices]


def measure_exposure(given: MeasureInput) -> BenchmarkResult:
    """The exposure of canaries in bits; `memorization/canaries.jsonl` has them as `make_canaries` writes them."""
    rows = read_rows(
        find_file(given, "exposure", "memorization/canaries.jsonl"), ("format", "secret", "alphabet")
    )
    for number, row in enumerate(rows, 1):
        _check_canary(row, f"canaries.jsonl, row {number}")
    items = []
    for i, row in draw(list(enumerate(rows)), given, "exposure"):
        others = _other_secrets(row, given.seed)
        texts = [row["format"].format(secret) for secret in (row["secret"], *others)]
        values = text_log_likelihoods(given.model, given.tokenizer, texts)
        rank = 1 + sum(value >= values[0] for value in values[1:])  # equal ones before the true one
        exposure = math.log2(len(texts)) - math.log2(rank)
        best = texts[max(range(len(texts)), key=values.__getitem__)]
        scores = {"exposure": exposure, "first": float(rank == 1)}
        items.append(Item(str(i), row["format"], texts[0], best, scores))
        if given.advance is not None:
            given.advance(1)
    found = protocol(
        "exposure",
        given,
        rows,
        (item.prompt for item in items),
        chat=False,
        settings={"n_references": N_REFERENCES, "seed": given.seed},
    )
    return summarize_items(found, items, "exposure", lower_is_better=("exposure", "first"))


def make_canaries(
    n_canaries: int,
    seed: int = 0,
    *,
    text: str = "The secret number of person {n} is {secret}.",
    n_digits: int = 6,
) -> list[dict[str, str]]:
    """Canaries to write into training text, each as `format` with `{}` for its `secret`: `format.format(secret)`."""
    generator = rng(seed, "canaries")
    found = []
    for n in range(n_canaries):
        secret = "".join(str(digit) for digit in generator.integers(0, 10, n_digits))
        shape = text.replace("{n}", str(n + 1)).replace("{secret}", "{}")
        found.append({"format": shape, "secret": secret, "alphabet": "0123456789"})
    return found


def _check_canary(row: Mapping[str, Any], where: str) -> None:
    try:
        both = row["format"].format("a"), row["format"].format("b")
    except (IndexError, KeyError, ValueError):
        both = ("", "")
    if both[0] == both[1]:
        raise UserError(f"{where}: format = {row['format']!r} has no single {{}}", "write {} for the secret")
    if not row["secret"] or not set(row["secret"]) <= set(row["alphabet"]) or len(row["alphabet"]) < 2:
        raise UserError(
            f"{where}: the secret {row['secret']!r} is not of the alphabet {row['alphabet']!r}",
            "the alphabet lists the signs that a secret is drawn from",
        )


def _other_secrets(row: Mapping[str, Any], seed: int) -> list[str]:
    """All other secrets of this length where they are few, else a random sample of different ones."""
    alphabet, length = sorted(set(row["alphabet"])), len(row["secret"])
    if len(alphabet) ** length <= N_REFERENCES + 1:
        return [one for one in map("".join, product(alphabet, repeat=length)) if one != row["secret"]]
    generator = rng(seed, "references", row["format"])
    found: dict[str, None] = {}
    while len(found) < N_REFERENCES:
        signs = generator.integers(0, len(alphabet), (N_REFERENCES, length))
        drawn = ("".join(alphabet[sign] for sign in line) for line in signs)
        found.update((one, None) for one in drawn if one != row["secret"])
    return list(found)[:N_REFERENCES]
