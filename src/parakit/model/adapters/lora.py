"""Low-rank adaptation (LoRA, Hu et al. 2022) of one linear layer or embedding, and its relatives.

A wrapper computes base(x) + scale * lora_b(lora_a(x)); the base's weight is not touched. rsLoRA (Kalajdzievski 2023)
is another scale. DoRA (Liu et al. 2024, eq. 5) also trains the length of every row of the weight. PiSSA (Meng et al.
2024) and OLoRA (Buyukakyuz 2024) begin with the weight's largest parts: peft takes these out of the base, here the
wrapper takes away what it began with, so the base stays as it is. Left out: experts, whose matrices lie in a stack.

Shapes: I inputs, O outputs, R rank, V vocabulary, D width; a weight is (O, I), an embedding (V, D).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.adapters.config import LoraInit
from parakit.model.layers.norms import Dropout


class Wrapper(nn.Module):
    """What stands in the place of `base`, a module of a plain model, and goes again."""

    base: nn.Module

    def own(self) -> dict[str, nn.Parameter]:
        """The wrapper's parameters without the base's, by their names in the wrapper."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("base.")}


class LowRank(Wrapper, ABC):
    """The two factors beside a weight, and what they began with where that is to be taken away."""

    base: nn.Linear | nn.Embedding

    def __init__(
        self,
        base: nn.Linear | nn.Embedding,
        n_inputs: int,
        n_outputs: int,
        rank: int,
        scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.base, self.rank, self.scale = base, rank, scale
        self.dropout = Dropout(dropout)
        self.lora_a = nn.Parameter(base.weight.new_empty(rank, n_inputs))  # (R, I)
        self.lora_b = nn.Parameter(base.weight.new_empty(n_outputs, rank))  # (O, R)

    @property
    def weight(self) -> Tensor:
        """The base's, which others ask for its dtype, its device and whether it is tied."""
        return self.base.weight

    @abstractmethod
    def delta(self) -> Tensor:
        """What the adapter adds to the weight, in the weight's own shape."""

    def merged_weight(self) -> Tensor:
        """The weight that alone computes what base and adapter do, in float64."""
        return self.base.weight.detach().double() + self.delta()

    def factors(self) -> tuple[Tensor, Tensor]:
        """One `lora_a` (R', I) and one `lora_b` (O, R') that stand for the whole update."""
        return self.lora_a.detach(), self.lora_b.detach()


class LoraLinear(LowRank):
    """base(x) + scale * lora_b @ lora_a @ dropout(x)."""

    base: nn.Linear

    def __init__(self, base: nn.Linear, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(base, base.in_features, base.out_features, rank, scale, dropout)

    @property
    def bias(self) -> Tensor | None:
        """The base's."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.update(self.dropout(x))

    def update(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O): what the factors make of it."""
        return functional.linear(functional.linear(x, self.lora_a), self.lora_b) * self.scale

    @torch.no_grad()
    def delta(self) -> Tensor:
        """(O, I) float64."""
        lora_a, lora_b = self.factors()
        return self.scale * (lora_b.double() @ lora_a.double())

    @torch.no_grad()
    def reset(self, init: LoraInit) -> None:
        """Fresh factors whose product is zero."""
        if init == "gaussian":
            nn.init.normal_(self.lora_a, std=1 / self.rank)
        else:
            nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        nn.init.zeros_(self.lora_b)


class DoraLinear(LoraLinear):
    """A LoRA whose rows have trained lengths: magnitude * (W + update) / |W + update|, row by row.

    The norm takes part in no gradient (Liu et al. 2024, section 4.3). With dropout, what is added to base(x) is made
    of the dropped inputs, as in peft.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(base, rank, scale, dropout)
        self.magnitude = nn.Parameter(base.weight.new_empty(base.out_features))  # (O,)

    def forward(self, x: Tensor) -> Tensor:
        dropped = self.dropout(x)
        ratio = self.magnitude / self._norm()  # (O,)
        of_base = functional.linear(dropped, self.base.weight)
        return self.base(x) + (ratio - 1) * of_base + ratio * self.update(dropped)

    @torch.no_grad()
    def _norm(self) -> Tensor:
        """(O,) lengths of the rows of the weight as the factors change it."""
        return torch.linalg.norm(self.base.weight + self.scale * (self.lora_b @ self.lora_a), dim=1)

    @torch.no_grad()
    def delta(self) -> Tensor:
        """(O, I) float64."""
        changed = self.base.weight.double() + super().delta()
        length = torch.linalg.norm(changed, dim=1, keepdim=True)
        return self.magnitude.double()[:, None] * changed / length - self.base.weight.double()

    @torch.no_grad()
    def reset(self, init: LoraInit) -> None:
        """Fresh factors whose product is zero, and the lengths that the weight has."""
        super().reset(init)
        self.magnitude.copy_(torch.linalg.norm(self.base.weight, dim=1))


class PissaLinear(LoraLinear):
    """A LoRA that begins with the largest parts of the weight, less what it began with."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(base, rank, scale, dropout)
        self.lora_a_start = nn.Parameter(torch.empty_like(self.lora_a), requires_grad=False)
        self.lora_b_start = nn.Parameter(torch.empty_like(self.lora_b), requires_grad=False)

    def update(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O): how far the factors have moved."""
        start = functional.linear(functional.linear(x, self.lora_a_start), self.lora_b_start)
        return super().update(x) - start * self.scale

    def factors(self) -> tuple[Tensor, Tensor]:
        """(2 R, I) and (O, 2 R): an ordinary LoRA of twice the rank."""
        lora_a = torch.cat([self.lora_a.detach(), self.lora_a_start])
        lora_b = torch.cat([self.lora_b.detach(), -self.lora_b_start], dim=1)
        return lora_a, lora_b

    @torch.no_grad()
    def reset(self, init: LoraInit) -> None:
        """The first `rank` parts of the weight by SVD (PiSSA, eq. 2 and 3) or QR (OLoRA), as peft has them."""
        weight = self.base.weight.float()
        if init == "pissa":
            left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
            roots = (sizes[: self.rank] / self.scale).sqrt()
            self.lora_b.copy_(left[:, : self.rank] * roots)
            self.lora_a.copy_(roots[:, None] * right[: self.rank])
        else:
            q, r = torch.linalg.qr(weight)
            self.lora_b.copy_(q[:, : self.rank])
            self.lora_a.copy_(r[: self.rank])
        self.lora_a_start.copy_(self.lora_a)
        self.lora_b_start.copy_(self.lora_b)


class LoraEmbedding(LowRank):
    """base(ids) + scale * the low-rank table's rows; the table is (lora_b @ lora_a) turned, (V, D)."""

    base: nn.Embedding

    def __init__(self, base: nn.Embedding, rank: int, scale: float) -> None:
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
        """Zero for every token, normal behind it: fresh factors whose product is zero."""
        nn.init.zeros_(self.lora_a)
        nn.init.normal_(self.lora_b)


class FullyTrained(Wrapper):
    """A copy of a module that is trained whole, while the base's own is kept."""

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
