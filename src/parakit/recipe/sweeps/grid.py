"""The runs of a sweep from the command line: `--seeds 5`, `--vary pretrain.learning_rate=0.01,0.02`."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from parakit.common.errors import UserError
from parakit.common.formatting import short_keys
from parakit.common.settings import canonical_json
from parakit.common.yaml_reading import YamlFault, parse_yaml

MAX_RUNS = 1000
MAX_NAME = 80  # characters of a run's name, which becomes a folder
Values = Mapping[str, Any]
"""Of one setting of a sweep: the value of each key that is varied."""


Seeds = int | Sequence[int]
"""How many seeds, or which."""


def parse_seeds(text: str) -> Seeds:
    """`5`: how many; `3,7,11`: these."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UserError(
            f"--seeds {text!r} is neither a number of seeds nor a list of them",
            "write --seeds 5, or the seeds themselves: --seeds 3,7,11",
        )
    return tuple(map(int, words)) if len(words) > 1 else int(words[0])


def seed_numbers(seeds: Seeds | None, first: int) -> tuple[int, ...]:
    """So many seeds from `first` on, or these; None: `first` alone."""
    if seeds is None:
        return (first,)
    if isinstance(seeds, int):
        if not 1 <= seeds <= MAX_RUNS:
            raise UserError(f"{seeds} seeds, and there are 1 to {MAX_RUNS}", "write for example --seeds 5")
        return tuple(range(first, first + seeds))
    numbers = list(seeds)
    if not numbers:
        raise UserError("the list of seeds is empty", "name seeds, or how many there are")
    if repeated := [seed for seed in numbers if numbers.count(seed) > 1]:
        raise UserError(f"the seed {repeated[0]} is there twice", "name each seed once")
    return tuple(numbers)


def parse_vary(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The values of each key, from KEY=VALUE,VALUE words; a value is written as in YAML."""
    varied: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        if not (key and equals and listed):
            raise UserError(
                f"--vary {text!r} is not KEY=VALUE,VALUE",
                "write for example --vary pretrain.learning_rate=0.01,0.02",
            )
        if key in varied:
            raise UserError(f"--vary {key} is given twice", f"list all its values in one: {key}=VALUE,VALUE")
        try:
            values = parse_yaml(f"[{listed}]")
        except YamlFault:
            raise UserError(
                f"--vary {text!r}: {listed!r} is not readable as YAML values",
                f'quote a text with special characters: --vary \'{key}="...","..."\'',
            ) from None
        varied[key] = tuple(values)
    return varied


def check_varied(varied: Mapping[str, Sequence[Any]]) -> None:
    """`UserError` for a key that is not to be varied, and for values that are none or the same."""
    for key, values in varied.items():
        if key == "seed":
            raise UserError("seed is varied: seeds have a setting of their own", "write --seeds 3,7,11")
        if key == "name":
            raise UserError("name is varied: runs are named after their values", "leave it out")
        if isinstance(values, str) or not values:
            raise UserError(f"{key} is varied over {values!r}, which is no list of values", "list its values")
        written = [canonical_json(value) for value in values]
        if repeated := next((value for value in written if written.count(value) > 1), None):
            raise UserError(
                f"{key} is varied, and the value {repeated} is there twice", "name each value once"
            )


def settings_of(varied: Mapping[str, Sequence[Any]], n_seeds: int) -> list[Values]:
    """Every combination of the values; one without any where nothing is varied."""
    n_settings = 1
    for values in varied.values():
        n_settings *= len(values)
    if n_settings * n_seeds > MAX_RUNS:
        counts = " x ".join(str(len(values)) for values in varied.values())
        raise UserError(
            f"{' x '.join(filter(None, (counts, str(n_seeds))))} are {n_settings * n_seeds:,} runs, {MAX_RUNS:,} at most",
            "name fewer values or seeds, or start several sweeps",
        )
    return [dict(zip(varied, chosen, strict=True)) for chosen in itertools.product(*varied.values())]


def label(values: Values) -> str:
    """A setting in words: `learning_rate 0.01, size 1m`."""
    short = short_keys(list(values))
    return ", ".join(f"{short[key]} {_text(value)}" for key, value in values.items())


def run_name(values: Values, seed: int) -> str:
    """The folder of a run: `learning_rate-0.01-seed-3`; a long one is cut, and ends in a digest of its values."""
    short = short_keys(list(values))
    words = [f"{short[key]}-{_text(value)}" for key, value in values.items()]
    end = f"seed-{seed}"
    plain = [re.sub(r"[^A-Za-z0-9._-]+", "_", word).strip("_") for word in words]
    name = "-".join([*plain, end])
    if len(name) > MAX_NAME or plain != words:
        mark = hashlib.sha256(canonical_json(dict(values)).encode()).hexdigest()[:8]
        name = f"{'-'.join(plain)[: MAX_NAME - len(end) - 10].rstrip('-._')}-{mark}-{end}"
    return name.lstrip("-._") or end


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)
