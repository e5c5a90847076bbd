"""Low-rank adaptation (LoRA, Hu et al. 2022) of one linear layer or embedding, and its variants.

A wrapper computes base(x) + scale * lora_b(lora_a(x)) and leaves the base's weight unchanged. rsLoRA (Kalajdzievski
2023) has another scale. DoRA (Liu et al. 2024, eq. 5) also trains the norm of every row of the weight. PiSSA (Meng et
al. 2024) and OLoRA (Buyukakyuz 2024) start from the weight's largest components: peft subtracts these from the base;
here the wrapper subtracts its initial factors' product, so the base stays unchanged. Left out: experts, whose matrices
are stacked in one parameter.

Shapes: I inputs, O outputs, R rank, V vocabulary, D width; a weight is (O, I), an embedding (V, D).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.adapters.config import LoraInit
from parakit.model.kernels.training import has_hooks
from parakit.model.layers.norms import Dropout
from parakit.model.layers.projections import Projection, project_together, projection_of
from parakit.model.quantized.layers import QuantizedEmbedding, QuantizedLinear, weight_like


class Wrapper(nn.Module):
    """A module that replaces `base`, a module of a plain model, until it is detached."""

    base: nn.Module

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The wrapper's parameters without the base's, by their names in the wrapper."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("base.")}


class LowRankWrapper(Wrapper, ABC):
    """The two factors of a weight's low-rank update."""

    base: nn.Linear | nn.Embedding | QuantizedLinear | QuantizedEmbedding

    def __init__(
        self,
        base: nn.Linear | nn.Embedding | QuantizedLinear | QuantizedEmbedding,
        n_inputs: int,
        n_outputs: int,
        rank: int,
        scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.base, self.rank, self.scale = base, rank, scale
        self.dropout = Dropout(dropout)
        like = weight_like(base)
        self.lora_a = nn.Parameter(
            torch.empty(rank, n_inputs, dtype=like.dtype, device=like.device)
        )  # (R, I)
        self.lora_b = nn.Parameter(
            torch.empty(n_outputs, rank, dtype=like.dtype, device=like.device)
        )  # (O, R)

    @property
    def weight(self) -> Tensor:
        """The base's; of a quantized one dequantized each time: for its dtype and device see `weight_like`."""
        return self.base.weight

    @abstractmethod
    def reset(self, init: LoraInit) -> None:
        """Initialize the factors; the update is zero."""

    @abstractmethod
    def delta(self) -> Tensor:
        """The update of the weight, in the weight's shape."""

    def merged_weight(self) -> Tensor:
        """The base's weight plus the update, in float64."""
        return self.base.weight.detach().double() + self.delta()

    def factors(self) -> tuple[Tensor, Tensor]:
        """One `lora_a` (R', I) and one `lora_b` (O, R') whose product is the whole update."""
        return self.lora_a.detach(), self.lora_b.detach()


class LoraLinear(LowRankWrapper):
    """base(x) + scale * lora_b @ lora_a @ dropout(x). On a quantized base this is QLoRA (Dettmers et al. 2023, eq. 5)."""

    base: nn.Linear | QuantizedLinear

    def __init__(
        self, base: nn.Linear | QuantizedLinear, rank: int, scale: float, dropout: float = 0.0
    ) -> None:
        super().__init__(base, base.in_features, base.out_features, rank, scale, dropout)

    @property
    def bias(self) -> Tensor | None:
        """The base's."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        together = project_together(x, (self,))
        return self._add_update(self.base(x), self.dropout(x)) if together is None else together[0]

    def as_projection(self) -> Projection | None:
        """What the layer computes, for `project`; None where that is more than two products: see there."""
        if type(self) is not LoraLinear or has_hooks(self) or (self.training and self.dropout.p):
            return None
        base = projection_of(self.base)
        if base is None or type(self.lora_a) is not nn.Parameter or base.weight.requires_grad:
            return None
        return replace(base, lora_a=self.lora_a, lora_b=self.lora_b, scale=self.scale)

    def _add_update(self, base: Tensor, x: Tensor) -> Tensor:
        """`base + self.update(x)`, base (..., O) and x (..., I), in one operation: as three they hold two more (..., O)."""
        return _add_product(base, functional.linear(x, self.lora_a), self.lora_b, self.scale)

    def update(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O): scale * lora_b @ lora_a @ x."""
        return functional.linear(functional.linear(x, self.lora_a), self.lora_b) * self.scale

    @torch.no_grad()
    def delta(self) -> Tensor:
        """(O, I) float64."""
        lora_a, lora_b = self.factors()
        return self.scale * (lora_b.double() @ lora_a.double())

    @torch.no_grad()
    def reset(self, init: LoraInit) -> None:
        """Initialize the factors; their product is zero."""
        if init == "gaussian":
            nn.init.normal_(self.lora_a, std=1 / self.rank)
        else:
            nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        nn.init.zeros_(self.lora_b)


def _add_product(base: Tensor, low_rank: Tensor, lora_b: Tensor, scale: float) -> Tensor:
    """base (..., O) + scale * lora_b @ low_rank, of low_rank (..., R)."""
    total = torch.addmm(base.flatten(0, -2), low_rank.flatten(0, -2), lora_b.t(), alpha=scale)
    return total.view_as(base)


class DoraLinear(LoraLinear):
    """A LoRA with trained row norms: magnitude * (W + update) / |W + update|, row by row.

    The norm |W + update| gets no gradient (Liu et al. 2024, section 4.3). With dropout, the update of base(x) is
    computed from the dropped inputs, as in peft.
    """

    def __init__(
        self, base: nn.Linear | QuantizedLinear, rank: int, scale: float, dropout: float = 0.0
    ) -> None:
        super().__init__(base, rank, scale, dropout)
        self.magnitude = nn.Parameter(self.lora_b.new_empty(base.out_features))  # (O,)

    def forward(self, x: Tensor) -> Tensor:
        dropped = self.dropout(x)
        ratio = self.magnitude / self._norm()  # (O,)
        of_base = functional.linear(dropped, self.base.weight)
        return self.base(x) + (ratio - 1) * of_base + ratio * self.update(dropped)

    @torch.no_grad()
    def _norm(self) -> Tensor:
        """(O,) norms of the rows of the updated weight."""
        return torch.linalg.norm(self.base.weight + self.scale * (self.lora_b @ self.lora_a), dim=1)

    @torch.no_grad()
    def delta(self) -> Tensor:
        """(O, I) float64."""
        updated = self.base.weight.double() + super().delta()
        norm = torch.linalg.norm(updated, dim=1, keepdim=True)
        return self.magnitude.double()[:, None] * updated / norm - self.base.weight.double()

    @torch.no_grad()
    def reset(self, init: LoraInit) -> None:
        """Initialize the factors, whose product is zero, and the magnitudes with the norms of the weight's rows."""
        super().reset(init)
        self.magnitude.copy_(torch.linalg.norm(self.base.weight, dim=1))


class PissaLinear(LoraLinear):
    """A LoRA whose factors start from the weight's largest components; their initial product is subtracted."""

    def __init__(
        self, base: nn.Linear | QuantizedLinear, rank: int, scale: float, dropout: float = 0.0
    ) -> None:
        super().__init__(base, rank, scale, dropout)
        self.lora_a_start = nn.Parameter(torch.empty_like(self.lora_a), requires_grad=False)
        self.lora_b_start = nn.Parameter(torch.empty_like(self.lora_b), requires_grad=False)

    def update(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O): the change of the factors' product since initialization, applied to x."""
        start = functional.linear(functional.linear(x, self.lora_a_start), self.lora_b_start)
        return super().update(x) - start * self.scale

    def _add_update(self, base: Tensor, x: Tensor) -> Tensor:
        start = functional.linear(x, self.lora_a_start)
        return _add_product(super()._add_update(base, x), start, self.lora_b_start, -self.scale)

    def factors(self) -> tuple[Tensor, Tensor]:
        """(2 R, I) and (O, 2 R): an ordinary LoRA of twice the rank."""
        lora_a = torch.cat([self.lora_a.detach(), self.lora_a_start])
        lora_b = torch.cat([self.lora_b.detach(), -self.lora_b_start], dim=1)
        return lora_a, lora_b

    @torch.no_grad()
    def reset(self, init: LoraInit) -> None:
        """The first `rank` components of the weight by SVD (PiSSA, eq. 2 and 3) or QR (OLoRA), as in peft."""
        weight = self.base.weight.float()
        if init == "pissa":
            left, singular_values, right = torch.linalg.svd(weight, full_matrices=False)
            roots = (singular_values[: self.rank] / self.scale).sqrt()
            self.lora_b.copy_(left[:, : self.rank] * roots)
            self.lora_a.copy_(roots[:, None] * right[: self.rank])
        else:
            q, r = torch.linalg.qr(weight)
            self.lora_b.copy_(q[:, : self.rank])
            self.lora_a.copy_(r[: self.rank])
        self.lora_a_start.copy_(self.lora_a)
        self.lora_b_start.copy_(self.lora_b)


class LoraEmbedding(LowRankWrapper):
    """base(ids) + scale * rows of the low-rank table (lora_b @ lora_a).T, (V, D)."""

    base: nn.Embedding | QuantizedEmbedding

    def __init__(self, base: nn.Embedding | QuantizedEmbedding, rank: int, scale: float) -> None:
        super().__init__(base, base.num_embeddings, base.embedding_dim, rank, scale, 0.0)

    def forward(self, token_ids: Tensor) -> Tensor:
        rows = functional.embedding(token_ids, self.lora_a.T)  # (..., R)
        return self.base(token_ids) + functional.linear(rows, self.lora_b) * self.scale

    @torch.no_grad()
    def delta(self) -> Tensor:
        """(V, D) float64."""
        return self.scale * (self.lora_b.double() @ self.lora_a.double()).T

    @torch.no_grad()
    def reset(self, init: LoraInit) -> None:
        """Initialize the factors, `lora_a` with zeros; their product is zero."""
        nn.init.zeros_(self.lora_a)
        nn.init.normal_(self.lora_b)


class FullyTrained(Wrapper):
    """A full copy of a module, which trains while the base stays unchanged."""

    def __init__(self, base: nn.Module, copy: nn.Module) -> None:
        super().__init__()
        self.base, self.copy = base, copy

    @property
    def weight(self) -> Tensor:
        """The copy's, where it is a single layer."""
        weight: Tensor = self.copy.weight  # type: ignore[assignment]
        return weight

    def forward(self, *arguments: Tensor) -> Tensor:
        output: Tensor = self.copy(*arguments)
        return output
