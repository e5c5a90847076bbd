"""Model configs by size: a parameter count determines width, depth, heads, learning rate and batch.

Depth grows more slowly than width (aspect ratio 32 at width 128, 64 at 768, 128 at 4,096, close to GPT-2, Llama and
Qwen3). The learning rate is for Muon, whose step is normalised by the matrix's shape and so transfers between widths;
the batch grows with the size, because the gradient's noise scale does (McCandlish et al. 2018). Every config is one that
a published architecture computes, so that its folder can be loaded elsewhere; published sizes by name are in
`pretrained_configs.py`. Imports no torch.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.model.config import FAMILIES, DecoderConfig, EncoderConfig, EncoderDecoderConfig, ModelConfig
from parakit.model.model_choices import ModelChoices
from parakit.model.pretrained_configs import BERT, dims, modernbert_windows, t5, vaswani

SUFFIXES = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}


@dataclass(frozen=True)
class ModelSizing:
    """A config with the learning rates and the tokens of one optimizer step that suit it."""

    config: ModelConfig
    learning_rate: float
    embedding_learning_rate: float
    batch_tokens: int
    is_published: bool = False
    """Whether this is for tuning a published model: the rates are AdamW's, taken as they are."""

    def describe(self) -> str:
        """The shape in a line. The run's own plan says what else is taken: these are its defaults."""
        layers, c = str(self.config.n_layers), self.config
        if isinstance(c, EncoderDecoderConfig):
            layers, c = f"{c.encoder.n_layers} + {c.decoder.n_layers}", c.decoder
        return (
            f"{self.config.n_params()['total']:,} parameters: {layers} layers, width {c.d_model}, {c.n_heads} heads"
            f" ({c.n_kv_heads} key-value) of {c.head_dim}, feed-forward {c.d_ff}, context {c.max_seq_len}"
        )


def parse_size(size: str | int | float) -> int:
    """`"5m"` -> 5,000,000. Raises `UserError` for anything that is not a positive count."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmb]?)\s*", str(size).lower())
    value = int(float(match[1]) * SUFFIXES[match[2]]) if match else 0
    if value < 1:
        raise UserError(
            f"size {size!r} is not a parameter count", "write a number with k, m or b, for example --size 5m"
        )
    return value


# (d_model, vocab_size, max_seq_len, extra_layers) -> config
ConfigBuilder = Callable[[int, int, int, int], ModelConfig]


def config_for_size(
    size: str | int,
    vocab_size: int,
    max_seq_len: int = 256,
    family: str = "decoder",
    architecture: str | None = None,
    choices: ModelChoices | None = None,
) -> ModelSizing:
    """The config whose parameter count is closest to `size`, with the learning rates and batch that suit it.

    `family` is "decoder", "encoder" or "encoder-decoder"; `architecture` one of `ARCHITECTURES`, None for the
    family's default; `choices` are laid over it.
    """
    n_wanted = parse_size(size)
    builder = _config_builder(family, architecture)
    if choices is None:
        config = _closest_config(n_wanted, builder, vocab_size, max_seq_len)
    else:
        config = _closest_chosen(n_wanted, builder, vocab_size, max_seq_len, choices)
    n_params = config.n_active_params() if choices else config.n_params()["total"]
    if not 0.5 <= n_params / n_wanted <= 2:
        raise UserError(
            f"size {size} cannot be met with a vocabulary of {vocab_size:,}:"
            f" the nearest shape has {n_params:,} parameters",
            f"set size to {n_params}, or choose another vocabulary",
        )
    return default_hyperparameters(config)


def n_params_of_width(
    d_model: int,
    vocab_size: int,
    max_seq_len: int = 256,
    family: str = "decoder",
    architecture: str | None = None,
) -> int:
    """The parameters of a model of a width and its default depth."""
    return _total_params(_config_builder(family, architecture), d_model, vocab_size, max_seq_len, 0)


def default_hyperparameters(config: ModelConfig) -> ModelSizing:
    """`config` with the learning rates and batch that suit it."""
    n_params = config.n_params()["total"]
    batch_tokens = 2 ** round(11 + 0.75 * math.log2(max(n_params, 8e5) / 8e5))
    rate = 0.01 if config.family == "encoder-decoder" else 0.02  # measured on Multi30k: docs/log.md
    return ModelSizing(config, learning_rate=rate, embedding_learning_rate=0.004, batch_tokens=batch_tokens)


def _config_builder(family: str, architecture: str | None) -> ConfigBuilder:
    for name, known, given in (
        ("family", FAMILIES, family),
        ("architecture", ARCHITECTURES, architecture),
    ):
        if given is not None and given not in known:
            close = closest_match(given, known)
            raise UserError(
                f"no {name} {given!r}", f"did you mean {close!r}?" if close else f"one of: {', '.join(known)}"
            )
    of_family = [name for name, (other, _) in ARCHITECTURES.items() if other == family]
    if architecture is None:
        architecture = of_family[0]
    its_family, builder = ARCHITECTURES[architecture]
    if its_family != family:
        raise UserError(
            f"architecture {architecture!r} belongs to the family {its_family!r}, not to {family!r}",
            f"set family: {its_family}, or architecture: {' or '.join(of_family)}",
        )
    return builder


def _closest_config(n_wanted: int, builder: ConfigBuilder, vocab_size: int, max_seq_len: int) -> ModelConfig:
    """The closest config with the default depth of its width; where none is within a tenth, with as few layers more or
    less as necessary.
    """
    widths = [*range(32, 512, 32), *range(512, 2048, 64), *range(2048, 8193, 256)]
    candidates: list[tuple[int, int, int]] = []  # difference in parameters, width, extra layers
    for n_extra in (0, 1, 2, 3):
        for width in widths:
            for extra in {n_extra, -n_extra}:
                total = _total_params(builder, width, vocab_size, max_seq_len, extra)
                candidates.append((abs(total - n_wanted), width, extra))
        difference, width, extra = min(candidates, key=lambda one: one[0])
        if difference <= n_wanted / 10:
            break
    return builder(width, vocab_size, max_seq_len, extra)


def config_of_shape(
    choices: ModelChoices,
    vocab_size: int,
    max_seq_len: int = 256,
    family: str = "decoder",
    architecture: str | None = None,
) -> ModelSizing:
    """The config of choices that leave nothing of the shape open; see `ModelChoices.fix_size`."""
    config = _config_builder(family, architecture)(choices.chosen()["d_model"], vocab_size, max_seq_len, 0)
    return default_hyperparameters(choices.applied(choices.shaped(config), 0))


def _closest_chosen(
    n_wanted: int, builder: ConfigBuilder, vocab_size: int, max_seq_len: int, choices: ModelChoices
) -> ModelConfig:
    """As `_closest_config`, with choices: of the same width and depth, unless one of them is chosen, and of the same number
    of parameters.
    """
    chosen = choices.chosen()
    if not chosen.keys() & {"d_model", "n_layers", "d_ff"}:
        plain = _closest_config(n_wanted, builder, vocab_size, max_seq_len)
        return choices.applied(choices.shaped(plain), plain.n_params()["total"])
    widths = [chosen["d_model"]] if "d_model" in chosen else [*range(32, 512, 32), *range(512, 4097, 128)]
    extras = (0,) if "n_layers" in chosen else range(-3, 4)
    configs = (
        choices.shaped(builder(width, vocab_size, max_seq_len, extra)) for width in widths for extra in extras
    )
    closest = min(configs, key=lambda config: abs(config.n_params()["total"] - n_wanted))
    return choices.applied(closest, n_wanted)


@lru_cache(maxsize=4096)  # a search for the size that fits a budget computes the same configs repeatedly
def _total_params(
    builder: ConfigBuilder, d_model: int, vocab_size: int, max_seq_len: int, extra_layers: int
) -> int:
    return builder(d_model, vocab_size, max_seq_len, extra_layers).n_params()["total"]


def _head_dim(d_model: int) -> int:
    return 32 if d_model <= 384 else 64 if d_model <= 1536 else 128


def _n_layers(d_model: int, extra_layers: int) -> int:
    aspect = 32 * (d_model / 128) ** 0.4
    return max(2, round(d_model / aspect) + extra_layers)


def _gated_d_ff(d_model: int) -> int:
    """The width at which three matrices have as many parameters as two of 4 * d_model."""
    return round(8 / 3 * d_model / 32) * 32


def _qwen3(d_model: int, vocab_size: int, max_seq_len: int, extra_layers: int) -> DecoderConfig:
    head_dim = _head_dim(d_model)
    n_heads, n_layers = max(1, round(d_model / head_dim)), _n_layers(d_model, extra_layers)
    n_kv_heads = n_heads // 2 if n_heads % 2 == 0 and d_model >= 512 else n_heads
    d_ff = _gated_d_ff(d_model)
    shape = dims(vocab_size, d_model, n_layers, n_heads, d_ff, max_seq_len, n_kv_heads, head_dim)
    return DecoderConfig(**shape, tie_embeddings=d_model < 2048)


def _dims(d_model: int, vocab_size: int, max_seq_len: int, extra_layers: int, d_ff: int) -> dict[str, Any]:
    """With heads that divide the width: these architectures require it."""
    n_heads = d_model // math.gcd(d_model, _head_dim(d_model))
    return dims(vocab_size, d_model, _n_layers(d_model, extra_layers), n_heads, d_ff, max_seq_len)


def _modernbert(d_model: int, vocab_size: int, max_seq_len: int, extra_layers: int) -> EncoderConfig:
    shape = _dims(d_model, vocab_size, max_seq_len, extra_layers, _gated_d_ff(d_model))
    return EncoderConfig(**shape, **modernbert_windows(shape["n_layers"], max_seq_len))


def _bert(d_model: int, vocab_size: int, max_seq_len: int, extra_layers: int) -> EncoderConfig:
    return EncoderConfig(**BERT, **_dims(d_model, vocab_size, max_seq_len, extra_layers, 4 * d_model))


def _t5(d_model: int, vocab_size: int, max_seq_len: int, extra_layers: int) -> EncoderDecoderConfig:
    """Untied, as T5 v1.1: with tied embeddings and scaled logits, a model learns much more slowly (docs/log.md)."""
    shape = _dims(d_model, vocab_size, max_seq_len, extra_layers, _gated_d_ff(d_model))
    return t5(shape, tied=False, activation="gelu_tanh")


def _vaswani(d_model: int, vocab_size: int, max_seq_len: int, extra_layers: int) -> EncoderDecoderConfig:
    return vaswani(_dims(d_model, vocab_size, max_seq_len, extra_layers, 4 * d_model))


# Each family's default comes first.
ARCHITECTURES: Mapping[str, tuple[str, ConfigBuilder]] = {
    "qwen3": ("decoder", _qwen3),
    "modernbert": ("encoder", _modernbert),
    "bert": ("encoder", _bert),
    "t5": ("encoder-decoder", _t5),
    "2017": ("encoder-decoder", _vaswani),
}
