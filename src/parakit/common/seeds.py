"""Named random streams: each is a pure function of a seed and labels.

`rng(7, "batches", epoch)` is the same stream on every machine and independent of all other labels, so the order of draws
between streams does not matter. Philox (Salmon et al. 2011) is counter-based, and numpy's compatibility policy for bit
generators fixes its output.
"""

from __future__ import annotations

import hashlib
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive_seed(seed: int, *labels: str | int) -> int:
    """A 128-bit seed for the stream that `labels` name."""
    text = "\x1f".join([str(operator.index(seed)), *map(_label, labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def _label(label: str | int) -> str:
    """A label as text: the separator is escaped, and numpy's integers give the same text as Python's."""
    if isinstance(label, str):
        return "str:" + label.replace("\\", "\\\\").replace("\x1f", "\\x1f")
    return f"int:{operator.index(label)}"


def rng(seed: int, *labels: str | int) -> np.random.Generator:
    """A numpy generator for the stream that `labels` name."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=derive_seed(seed, *labels)))


def seed_everything(seed: int) -> None:
    """Seed torch's global generators (initial weights, dropout), the only global random state that Parakit uses."""
    import torch

    torch.manual_seed(derive_seed(seed, "torch") & (2**63 - 1))
