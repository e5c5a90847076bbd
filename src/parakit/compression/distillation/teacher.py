"""The teacher of a distillation: a frozen model in evaluation mode.

Its forward pass asserts evaluation mode: with dropout its outputs would be random, and the loss would not show it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parakit.model.heads import LanguageModel, MaskedLanguageModel
from parakit.training.micro_batches import MicroBatch

Predictor = LanguageModel | MaskedLanguageModel


class Teacher:
    """`model`, frozen."""

    def __init__(self, model: Predictor) -> None:
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def hidden(self, batch: MicroBatch) -> Tensor:
        """The hidden vectors (B, T, d_model), the input of `logits`."""
        assert not self.model.training, "the teacher is in training mode"
        return self.model.hidden(
            batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
        )

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Vectors (N, d_model) to logits (N, V)."""
        return self.model.logits(hidden)


def shared_tensors(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Names of the student's parameters and buffers that share memory with the teacher's."""
    pointers = {tensor.untyped_storage().data_ptr() for tensor in _tensors(teacher).values()}
    return [name for name, own in _tensors(student).items() if own.untyped_storage().data_ptr() in pointers]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
