"""From a few words to a run: sizes and presets, vocabularies, batches, amounts of money and memory. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from parakit.common.errors import UserError
from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.presets import config_for_size, default_hyperparameters, parse_size
from parakit.model.pretrained_configs import PRESETS, preset
from parakit.planning.fitting import fits
from parakit.planning.machines import Machine
from parakit.planning.runs import RunSpec

LEAST_VOCABULARY, LARGEST_VOCABULARY = 512, 65_536
TUNING_ROWS = 16


def default_vocabulary(size: int) -> int:
    """A power of two near 1.5 times the root of the size: about a quarter of a small model, a fiftieth of a large one."""
    return min(LARGEST_VOCABULARY, max(LEAST_VOCABULARY, 2 ** round(math.log2(1.5 * math.sqrt(size)))))


def model_of(
    size: str | int,
    *,
    vocab_size: int | None = None,
    seq_len: int = 256,
    family: str = "decoder",
    architecture: str | None = None,
) -> ModelConfig:
    """The config of a published model by name ("gpt-3"), or of about so many parameters ("125m")."""
    if str(size).lower() in PRESETS:
        return preset(str(size).lower())
    if re.search(r"[a-z]{2,}|[a-z]\d", str(size).lower()) and not re.match(
        r"\s*\d+(\.\d+)?\s*[kmbt]?\s*$", str(size)
    ):
        preset(str(size))  # raises with the nearest name
    n = parse_size(size)
    return config_for_size(n, vocab_size or default_vocabulary(n), seq_len, family, architecture).config


def run_of(config: ModelConfig, settings: Mapping[str, Any]) -> RunSpec:
    """A run of `config`; what `settings` (fields of `RunSpec`, and `batch_tokens`) leave open follows from its size."""
    given = {name: value for name, value in settings.items() if value is not None}
    method = given.get("method", "pretrain")
    window = config.max_seq_len
    seq_len = given.setdefault("seq_len", min(window, 2048))
    batch_tokens = given.pop("batch_tokens", None)
    if method == "inference":
        given.setdefault("n_rows", 1)
        given["micro_batch_size"] = given["n_rows"]
    else:
        default = default_hyperparameters(config).batch_tokens
        if method != "pretrain":
            default = min(default, TUNING_ROWS * seq_len)
        if batch_tokens is not None and batch_tokens < seq_len:
            raise UserError(
                f"batch_tokens = {batch_tokens} is less than one row of {seq_len} tokens",
                f"raise --batch-tokens to {seq_len}, or lower --seq-len",
            )
        given["n_rows"] = max(1, (batch_tokens or default) // seq_len)
        given["micro_batch_size"] = min(given.get("micro_batch_size") or given["n_rows"], given["n_rows"])
    if isinstance(config, EncoderDecoderConfig):
        given.setdefault("counted_share", 0.5)  # the source is not predicted
    given.setdefault("optimizer", "muon" if method in ("pretrain", "distill") else "adamw")
    return RunSpec(config=config, **given)


def with_fitting_rows(spec: RunSpec, machine: Machine) -> RunSpec:
    """`spec` with as many of a device's rows at a time as fit, as training chooses them; one where not even that does."""
    of_device = max(1, spec.n_rows // spec.n_devices)
    tried = spec.changed(micro_batch_size=min(spec.micro_batch_size, of_device))
    while not fits(tried, machine) and tried.micro_batch_size > 1:
        tried = tried.changed(micro_batch_size=tried.micro_batch_size // 2)
    return tried


def parse_count(text: str, what: str) -> float:
    """`"1.5b"` -> 1.5e9; also k, m and t. Raises `UserError` for what is no positive count."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmbt]?)\s*", text.lower())
    value = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}[match[2]] if match else 0.0
    if not 1 <= value < 1e20:
        raise UserError(f"{what} {text!r} is not a number of tokens", "write for example 20m, 1.5b or 300e9")
    return value


def parse_money(text: str) -> float:
    """`"50"`, `"$50"` -> US dollars. Raises `UserError` for what is no positive amount."""
    match = re.fullmatch(r"\s*\$?\s*(\d+(?:\.\d+)?)\s*(?:usd|\$)?\s*", text.lower())
    if not match or float(match[1]) <= 0:
        raise UserError(f"budget {text!r} is not an amount of US dollars", "write for example 50 or $50")
    return float(match[1])
