"""One size dial: a parameter count derives width, depth, heads, learning rate and batch.

Depth grows more slowly than width (aspect ratio 32 at width 128, 64 at 768, 128 at 4,096: GPT-2, Llama and
Qwen3 lie close to that line). The learning rate holds for Muon, whose step is normalised by the matrix's
shape and so carries over between widths; the batch grows with the size, because the gradient's noise scale
does (McCandlish et al. 2018). Imports no torch.
"""

import math
import re
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.model.config import DecoderConfig

SUFFIXES = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}


@dataclass(frozen=True)
class SizePlan:
    """What the dial chose: the shape, the learning rates, and the tokens of one optimizer step."""

    config: DecoderConfig
    learning_rate: float
    embedding_learning_rate: float
    batch_tokens: int

    def describe(self) -> str:
        """One line for people."""
        c = self.config
        return (
            f"{c.n_params()['total']:,} parameters: {c.n_layers} layers, width {c.d_model}, {c.n_heads} heads"
            f" ({c.n_kv_heads} key-value) of {c.head_dim}, feed-forward {c.d_ff}, context {c.max_seq_len};"
            f" learning rate {self.learning_rate:g} (embeddings {self.embedding_learning_rate:g}),"
            f" {self.batch_tokens:,} tokens a step"
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


def size_dial(size: str | int, vocab_size: int, max_seq_len: int = 256) -> SizePlan:
    """The shape whose parameter count comes closest to `size`, with the learning rates and batch that
    suit it.
    """
    wanted = parse_size(size)
    best = _nearest_shape(wanted, vocab_size, max_seq_len)
    counts = best.n_params()
    if not 0.5 <= counts["total"] / wanted <= 2:
        raise UserError(
            f"size {size} cannot be met with a vocabulary of {vocab_size:,}:"
            f" the nearest shape has {counts['total']:,} parameters",
            "choose a smaller vocabulary or another size",
        )
    batch_tokens = 2 ** round(11 + 0.75 * math.log2(max(counts["total"], 8e5) / 8e5))
    return SizePlan(best, learning_rate=0.02, embedding_learning_rate=0.004, batch_tokens=batch_tokens)


def _nearest_shape(wanted: int, vocab_size: int, max_seq_len: int) -> DecoderConfig:
    """The nearest shape on the aspect line; where none comes within a tenth, layers are added or taken
    away, as few as it needs.
    """
    widths = [*range(32, 512, 32), *range(512, 2048, 64), *range(2048, 8193, 256)]
    nearest: list[tuple[int, DecoderConfig]] = []
    for extra in (0, 1, 2, 3):
        shapes = [
            _shape(width, vocab_size, max_seq_len, more) for width in widths for more in {extra, -extra}
        ]
        nearest += [(abs(shape.n_params()["total"] - wanted), shape) for shape in shapes]
        off, best = min(nearest, key=lambda pair: pair[0])
        if off <= wanted / 10:
            break
    return best


def _shape(d_model: int, vocab_size: int, max_seq_len: int, more_layers: int = 0) -> DecoderConfig:
    head_dim = 32 if d_model <= 384 else 64 if d_model <= 1536 else 128
    n_heads = max(1, round(d_model / head_dim))
    aspect = 32 * (d_model / 128) ** 0.4
    return DecoderConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        n_layers=max(2, round(d_model / aspect) + more_layers),
        n_heads=n_heads,
        n_kv_heads=n_heads // 2 if n_heads % 2 == 0 and d_model >= 512 else n_heads,
        head_dim=head_dim,
        d_ff=round(8 / 3 * d_model / 32) * 32,
        max_seq_len=max_seq_len,
        tie_embeddings=d_model < 2048,
    )
