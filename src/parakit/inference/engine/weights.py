"""A digest of a model's weights as they are now, so that nothing computed from other weights is used again."""

from __future__ import annotations

import hashlib
from array import array
from itertools import chain

import torch
from torch import nn


def weights_digest(model: nn.Module) -> bytes:
    """Changes when a tensor is replaced or written: training counts, and so does another adapter. Reads no values."""
    state = array("q")
    for tensor in chain(model.parameters(), model.buffers()):
        state.append(tensor.data_ptr() % 2**62)
        state.append(_version(tensor))
    return hashlib.blake2b(state.tobytes(), digest_size=16).digest()


def _version(tensor: torch.Tensor) -> int:
    """How often the tensor was written; tensors made in inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version
