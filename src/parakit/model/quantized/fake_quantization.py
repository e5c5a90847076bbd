"""Quantization-aware training: layers compute with rounded weights, and gradients pass the rounding unchanged (the
straight-through estimator, Bengio et al. 2013).

The parameters stay as they are, under their names, in full precision: optimizers and checkpoints see a plain model.
`finish` rounds them for good, with the scales of the last forward pass, so that the quantized model computes what the trained
one did.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from parakit.model.heads import TransformerModel
from parakit.model.quantized.layers import share_weight
from parakit.model.quantized.rounding import decode, encode, scales_of
from parakit.model.quantized.scheme import QuantScheme
from parakit.model.quantized.swapping import check_plan, quantize_modules, replace_module, tied_heads


def fake_quantize(weight: Tensor, scheme: QuantScheme) -> Tensor:
    """The values that `quantize_tensor` gives a matrix (O, I), in its dtype; their gradient is the matrix's."""
    groups = weight.detach().float().unflatten(1, (scheme.groups(weight.shape[1]), -1))
    scale, zero = scales_of(groups, scheme)
    rounded = decode(encode(groups, scale, zero, scheme), scale, zero, scheme).flatten(1).to(weight.dtype)
    return rounded if not weight.requires_grad else weight + (rounded - weight).detach()


class FakeQuantizedLinear(nn.Linear):
    """A linear layer that shares the parameters of `base` and computes with its rounded weight."""

    def __init__(self, base: nn.Linear, scheme: QuantScheme) -> None:
        super().__init__(1, 1, bias=False, device="meta")
        self.out_features, self.in_features = base.weight.shape
        self.weight, self.bias, self.scheme = base.weight, base.bias, scheme

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)"""
        return functional.linear(x, fake_quantize(self.weight, self.scheme), self.bias)


class FakeQuantizedEmbedding(nn.Embedding):
    """An embedding that shares the parameter of `base` and looks up rounded rows."""

    def __init__(self, base: nn.Embedding, scheme: QuantScheme) -> None:
        super().__init__(1, 1, device="meta")
        self.num_embeddings, self.embedding_dim = base.weight.shape
        self.weight, self.scheme = base.weight, scheme

    def forward(self, token_ids: Tensor) -> Tensor:
        """(...) -> (..., D)"""
        rows = functional.embedding(token_ids.flatten(), self.weight)
        return fake_quantize(rows, self.scheme).view(*token_ids.shape, self.embedding_dim)


def prepare(model: TransformerModel, plan: Mapping[str, QuantScheme]) -> None:
    """Swap the modules of `plan`, as for `quantize_modules`, for ones that compute with rounded weights; in place."""
    heads = tied_heads(model)
    plan = {heads.get(name, name): scheme for name, scheme in plan.items()}
    check_plan(model, plan)
    for name, scheme in plan.items():
        module = model.get_submodule(name)
        if isinstance(module, nn.Embedding):
            for head in (head for head, embedding in heads.items() if embedding == name):
                linear = model.get_submodule(head)
                assert isinstance(linear, nn.Linear)
                replace_module(model, linear, FakeQuantizedLinear(linear, scheme))
            replace_module(model, module, FakeQuantizedEmbedding(module, scheme))
        else:
            assert isinstance(module, nn.Linear)
            replace_module(model, module, FakeQuantizedLinear(module, scheme))


def finish(model: TransformerModel) -> None:
    """Swap what `prepare` swapped for quantized modules, in place."""
    plan: dict[str, QuantScheme] = {}
    embedding: nn.Embedding | None = None
    plain: nn.Embedding | nn.Linear
    for name, module in list(model.named_modules()):
        if isinstance(module, FakeQuantizedEmbedding):
            embedding = plain = nn.Embedding(1, 1, device="meta")
            embedding.num_embeddings, embedding.embedding_dim = module.weight.shape
            embedding.weight = module.weight
        elif isinstance(module, FakeQuantizedLinear):
            plain = _plain(module)
        else:
            continue
        replace_module(model, module, plain)
        if not (isinstance(plain, nn.Linear) and embedding is not None and share_weight(plain, embedding)):
            plan[name] = module.scheme
    quantize_modules(model, plan)


def _plain(module: FakeQuantizedLinear) -> nn.Linear:
    plain = nn.Linear(1, 1, bias=False, device="meta")
    plain.out_features, plain.in_features = module.weight.shape
    plain.weight, plain.bias = module.weight, module.bias
    return plain
