"""Replace linear layers and embeddings of a plain model by quantized ones, in place.

A plan names modules and the scheme of each. `quantizable` gives what a plan may name: the matrices of the blocks, the token
embedding, the output matrix and the projections next to them. Not: routers and other small matrices that compute one number a
head or a token, norms, positions, convolutions, heads of classes and rewards, and experts, whose matrices are stacked in one
parameter. A tied output matrix and its embedding are one matrix: naming either quantizes both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.model.heads import TransformerModel
from parakit.model.layers.experts import MixtureOfExperts
from parakit.model.quantized.layers import (
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedWeight,
    TiedQuantizedLinear,
    share_weight,
)
from parakit.model.quantized.rounding import QuantizedTensor, quantize_tensor
from parakit.model.quantized.scheme import QuantScheme

EMBEDDING, HEAD = "token_embedding", "lm_head"
SMALL = ("router", "write_rate", "decay", "output_gate")
"""Linear layers that compute one number for a head, an expert or a token."""

QuantPlan = Mapping[str, QuantScheme]


def quantizable(model: nn.Module) -> dict[str, tuple[int, int]]:
    """The names of all matrices that a plan may name, each once, with their shapes (outputs, inputs), in the model's order.
    A tied output matrix is listed as its embedding.
    """
    found = {
        name: (module.weight.shape[0], module.weight.shape[1])
        for name, module in model.named_modules()
        if _is_plain(name, module)
    }
    for name in tied_heads(model):
        found.pop(name, None)
    return found


def tied_heads(model: nn.Module) -> dict[str, str]:
    """The output matrix that is an embedding's -> the name of the embedding; at most one, plain or quantized."""
    modules = dict(model.named_modules())
    embeddings = {
        name: one for name, one in modules.items() if isinstance(one, nn.Embedding | QuantizedEmbedding)
    }
    for head, module in modules.items():
        is_head = isinstance(module, TiedQuantizedLinear) or (head == HEAD and type(module) is nn.Linear)
        for name, embedding in embeddings.items():
            if is_head and share_weight(module, embedding):
                return {head: name}
    return {}


def make_plan(
    model: nn.Module,
    scheme: QuantScheme,
    *,
    embeddings: QuantScheme | None = None,
    head: QuantScheme | None = None,
    ignore: Iterable[str] = (),
) -> dict[str, QuantScheme]:
    """`scheme` for the matrices of the trunk; `embeddings` for the token embedding and `head` for an output matrix, which
    stay plain where None (a tied one follows `embeddings`). `ignore`: names, or their last parts, that stay plain.
    """
    plan = {}
    for name in quantizable(model):
        last = name.rpartition(".")[2]
        chosen = embeddings if last == EMBEDDING else head if name == HEAD else scheme
        if chosen is not None and not {name, last} & set(ignore):
            plan[name] = chosen
    return plan


def quantize_modules(
    model: TransformerModel,
    plan: QuantPlan,
    tensors: Mapping[str, QuantizedTensor] | None = None,
    *,
    search: bool = False,
) -> None:
    """Swap every module of `plan` for a quantized one. `tensors`: codes and scales that a method has computed, by module; the
    others are rounded (`search` as for `quantize_tensor`). Plain weights are freed one after the other.

    `UserError` names a module that is not there, is no matrix, or does not fit its scheme; the model is then unchanged.
    """
    heads = tied_heads(model)
    plan = {heads.get(name, name): scheme for name, scheme in plan.items()}
    check_plan(model, plan)
    for name, scheme in plan.items():
        module = model.get_submodule(name)
        assert isinstance(module, nn.Linear | nn.Embedding)
        tensor = (tensors or {}).get(name)
        swapped = _empty(module, scheme)
        if not module.weight.is_meta:
            swapped.to(module.weight.device)
            swapped.quantized = tensor or quantize_tensor(module.weight, scheme, search=search)
        replace_module(model, module, swapped)
        for tied, embedding in heads.items():
            if embedding == name:
                old = model.get_submodule(tied)
                assert isinstance(swapped, QuantizedEmbedding)
                assert isinstance(old, nn.Linear)
                head = TiedQuantizedLinear(swapped, old.bias)
                replace_module(model, old, head.to(old.weight.device))


def quantized_modules(model: nn.Module) -> dict[str, QuantizedWeight]:
    """The quantized modules by name, each matrix once: a tied output matrix is left out."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedWeight) and not isinstance(module, TiedQuantizedLinear)
    }


def is_quantized(model: nn.Module) -> bool:
    """Whether any module is quantized."""
    return any(isinstance(module, QuantizedWeight) for module in model.modules())


def dequantize_modules(model: TransformerModel) -> None:
    """Swap quantized modules for plain ones of the same values, in place: a plain model, for merging and exports."""
    heads = tied_heads(model)
    for name, module in quantized_modules(model).items():
        n_out, n_in = module.shape
        weight = nn.Parameter(module.weight)
        plain: nn.Embedding | nn.Linear
        if isinstance(module, QuantizedLinear):
            plain = _plain_linear(weight, module.bias)
        else:
            plain = nn.Embedding(n_out, n_in, device="meta")
            plain.weight = weight
        replace_module(model, module, plain)
        for tied, embedding in heads.items():
            if embedding == name:
                old = model.get_submodule(tied)
                assert isinstance(old, TiedQuantizedLinear)
                replace_module(model, old, _plain_linear(weight, old.bias))


def _plain_linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    linear = nn.Linear(1, 1, bias=False, device="meta")
    linear.out_features, linear.in_features = weight.shape
    linear.weight, linear.bias = weight, bias  # type: ignore[assignment]
    return linear


def _is_plain(name: str, module: nn.Module) -> bool:
    last = name.rpartition(".")[2]
    if type(module) is nn.Embedding:
        return last == EMBEDDING
    inside = ".blocks." in f".{name}" or name == HEAD or last in ("input_projection", "output_projection")
    return type(module) is nn.Linear and inside and last not in SMALL


def _empty(module: nn.Linear | nn.Embedding, scheme: QuantScheme) -> QuantizedWeight:
    n_out, n_in = module.weight.shape
    if isinstance(module, nn.Linear):
        return QuantizedLinear(n_in, n_out, scheme, module.bias, module.weight.dtype)
    return QuantizedEmbedding(n_out, n_in, scheme.replace(activation_bits=None), module.weight.dtype)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` in the place of `old` under all its names: an embedding may be shared by two stacks."""
    new.train(old.training)
    for name in [name for name, module in model.named_modules(remove_duplicate=False) if module is old]:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, new)


def check_plan(model: nn.Module, plan: QuantPlan) -> None:
    """Raise `UserError` naming a module of `plan` that is not there, is no matrix, or does not fit its scheme."""
    shapes = quantizable(model)
    for name, scheme in plan.items():
        if name not in shapes:
            raise UserError(*_unknown(model, name, shapes))
        scheme.check(name, shapes[name])


def _unknown(model: nn.Module, name: str, shapes: Mapping[str, tuple[int, int]]) -> tuple[str, str]:
    modules = dict(model.named_modules())
    owner = modules.get(name.rpartition(".")[0])
    if isinstance(modules.get(name), MixtureOfExperts) or isinstance(owner, MixtureOfExperts):
        return (
            f"{name} holds all experts in one parameter, which is not quantized",
            "leave it out of the plan",
        )
    if isinstance(modules.get(name), QuantizedWeight):
        return f"{name} is quantized already", "start from the plain model"
    close = closest_match(name, list(shapes))
    what = f"is a {type(modules[name]).__name__}" if name in modules else "is not a module of this model"
    return f"{name} {what}, and cannot be quantized", f"did you mean {close!r}?" if close else "leave it out"
