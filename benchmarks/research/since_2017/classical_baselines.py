"""What stood before 2017: an n-gram model with interpolated Kneser-Ney smoothing, and an LSTM.

The n-gram model counts bytes (Kneser and Ney 1995, in the interpolated form of Chen and Goodman 1999, eq. 29, with one
discount an order). A context and its byte are one integer of 64 bits, so a table is a sorted array and a look-up a
binary search. The LSTM (Hochreiter and Schmidhuber 1997) offers what the objective asks of a language model.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from parakit.model.config import DecoderConfig
from parakit.model.heads import TokenPredictor

MAX_ORDER = 7  # bytes that fit, with a marker, into 64 bits


class KneserNey:
    """Counts of all byte strings up to `order` long; `n_entries` is the model's size."""

    def __init__(self, data: np.ndarray, order: int) -> None:
        assert 1 <= order <= MAX_ORDER
        self.order = order
        self.tables: list[tuple[np.ndarray, np.ndarray]] = []  # of 1, 2, ... bytes: keys ascending, counts
        for n in range(1, order + 1):
            keys, counts = np.unique(_strings(data, n), return_counts=True)
            self.tables.append((keys, counts.astype(np.float64)))
        for n in range(1, order):  # lower orders count in how many contexts a string ends, not how often
            longer = self.tables[n][0]
            keys, counts = np.unique(longer & np.uint64((1 << 8 * n) - 1), return_counts=True)
            self.tables[n - 1] = (keys, counts.astype(np.float64))
        self.contexts = [_contexts(*table) for table in self.tables]
        self.n_entries = sum(len(keys) for keys, _ in self.tables)

    def bits_per_byte(self, data: np.ndarray) -> float:
        """Mean of -log2 p over all bytes of `data` that have a full context."""
        predicted = np.full(len(data) - self.order + 1, 1 / 256)
        for n in range(1, self.order + 1):
            strings = _strings(data, n)[self.order - n :]
            predicted = self._mixed(n, strings, predicted)
        return float(-np.log2(predicted).mean())

    def _mixed(self, n: int, strings: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """p_n = max(c - D, 0) / total + D * kinds / total * p_(n-1); unseen contexts pass p_(n-1) on."""
        keys, counts = self.tables[n - 1]
        once, twice = float((counts == 1).sum()), float((counts == 2).sum())
        discount = once / (once + 2 * twice) if once else 0.5
        count = _look_up(keys, counts, strings)
        context_keys, totals, kinds = self.contexts[n - 1]
        total = _look_up(context_keys, totals, strings >> np.uint64(8))
        n_kinds = _look_up(context_keys, kinds, strings >> np.uint64(8))
        seen = np.maximum(total, 1)
        mixed = np.maximum(count - discount, 0) / seen + discount * n_kinds / seen * lower
        return np.where(total > 0, mixed, lower)


def _strings(data: np.ndarray, n: int) -> np.ndarray:
    """Every run of n bytes as one integer, the last byte lowest."""
    wide = data.astype(np.uint64)
    found = np.zeros(len(data) - n + 1, np.uint64)
    for i in range(n):
        found = (found << np.uint64(8)) | wide[i : len(data) - n + 1 + i]
    return found


def _contexts(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contexts of a table, with the sum of their counts and how many bytes follow them."""
    contexts, first, kinds = np.unique(keys >> np.uint64(8), return_index=True, return_counts=True)
    return contexts, np.add.reduceat(counts, first), kinds.astype(np.float64)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0)


class LSTMTrunk(nn.Module):
    """Token embedding and LSTM layers of the same width."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.lstm = nn.LSTM(config.d_model, config.d_model, config.n_layers, batch_first=True)
        self.blocks = nn.ModuleList()

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids (B, T) -> vectors (B, T, width)."""
        return self.lstm(self.token_embedding(input_ids))[0]


class LSTMLanguageModel(TokenPredictor):
    """An LSTM whose output matrix is tied to its embedding; the head is that of every language model here."""

    def __init__(self, vocab_size: int, width: int, n_layers: int) -> None:
        super().__init__()
        self.config = DecoderConfig(  # of which the head reads widths only
            vocab_size=vocab_size,
            d_model=width,
            n_layers=n_layers,
            n_heads=1,
            n_kv_heads=1,
            head_dim=2,
            d_ff=1,
        )
        trunk = LSTMTrunk(self.config)
        self.trunk = trunk  # type: ignore[assignment]
        self._add_head(self.config)
        nn.init.normal_(trunk.token_embedding.weight, std=0.05)

    @classmethod
    def of_size(cls, n_params: int, vocab_size: int, n_layers: int = 2) -> LSTMLanguageModel:
        """The width whose parameter count comes closest."""

        def count(width: int) -> int:
            return vocab_size * width + n_layers * (8 * width * width + 8 * width)

        return cls(
            vocab_size, min(range(32, 1024, 8), key=lambda width: abs(count(width) - n_params)), n_layers
        )

    def hidden(self, input_ids: Tensor, **_: object) -> Tensor:
        """input_ids (B, T) -> vectors (B, T, width); masks mean nothing to it, rows are read through."""
        return self.trunk(input_ids)


def n_parameters(model: nn.Module) -> int:
    """Counted once where tied."""
    return sum(parameter.numel() for parameter in model.parameters())


def xavier(model: nn.Module) -> None:
    """The usual start of 2017: Glorot and Bengio 2010, uniform, for every matrix of the blocks."""
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and "embedding" not in name and "lm_head" not in name and "positions" not in name:
            with torch.no_grad():
                nn.init.xavier_uniform_(weight)
