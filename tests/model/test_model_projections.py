"""Layers of one input whose gradients are added up in place give the gradients of the layers one by one."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from parakit.model.adapters.lora import DoraLinear, LoraLinear, PissaLinear
from parakit.model.kernels import load_training_kernels, training
from parakit.model.layers import projections
from parakit.model.layers.norms import RMSNorm
from parakit.model.layers.projections import project


def test_results_and_gradients_are_those_of_the_layers() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, n, bias=False) for n in (5, 3, 3)]
    x = torch.randn(2, 4, 6)
    slopes = [torch.randn(2, 4, n) for n in (5, 3, 3)]
    found = []
    for way in (lambda y: project(y, *layers), lambda y: tuple(layer(y) for layer in layers)):
        inputs = x.clone().requires_grad_()
        results = way(inputs)
        torch.autograd.backward(results, slopes)
        found.append([*results, inputs.grad, *(layer.weight.grad for layer in layers)])
        for layer in layers:
            layer.weight.grad = None
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_not_used_gets_a_gradient_of_zero() -> None:
    layers = [nn.Linear(6, 2, bias=False) for _ in range(2)]
    first, _ = project(torch.randn(3, 6).requires_grad_(), *layers)
    first.sum().backward()
    assert layers[0].weight.grad is not None
    assert layers[1].weight.grad is None or not layers[1].weight.grad.any()


@pytest.mark.skipif(load_training_kernels() is None, reason="no C++ compiler")
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("with_updates", [False, True])
def test_a_norm_that_is_computed_again_changes_no_bit(
    with_updates: bool, checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    norm, layers = RMSNorm(6, 1e-6), [nn.Linear(6, n, bias=False) for n in (5, 3)]
    nn.init.normal_(norm.weight)
    if with_updates:
        layers = [adapted(layer) for layer in layers]
    x, factors = torch.randn(2, 4, 6), [p for layer in layers for p in layer.parameters() if p.requires_grad]

    def block(inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return project(norm(inputs), *layers)

    found = []
    for numbers in (2**30, 1):
        monkeypatch.setattr(training, "COMPUTED_AGAIN", numbers)
        inputs = x.clone().requires_grad_()
        results = checkpoint(block, inputs, use_reentrant=False) if checkpointed else block(inputs)
        total = sum((result.square().sum() for result in results), torch.zeros(()))
        found.append([*results, *torch.autograd.grad(total, [inputs, norm.weight, *factors])])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_norm_is_let_go_where_it_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    if load_training_kernels() is None:
        pytest.skip("no C++ compiler")
    norm, layer = RMSNorm(6, 1e-6), nn.Linear(6, 5, bias=False)
    alive = []
    for numbers in (2**30, 1):
        monkeypatch.setattr(training, "COMPUTED_AGAIN", numbers)
        normed = norm(torch.randn(4, 6).requires_grad_())
        (result,) = project(normed, layer)
        reference = weakref.ref(normed)
        del normed
        gc.collect()
        alive.append(reference() is not None)
        result.sum().backward()
    assert alive == [True, False]


def test_a_norm_that_was_changed_in_place_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COMPUTED_AGAIN", 1)
    torch.manual_seed(0)
    layer, gradients = nn.Linear(6, 5, bias=False), []
    x = torch.randn(4, 6)
    for scaled in (lambda normed: normed.mul_(2), lambda normed: normed * 2):
        (result,) = project(scaled(RMSNorm(6, 1e-6)(x)), layer)
        gradients.append(torch.autograd.grad(result.sum(), layer.weight)[0])
    assert torch.equal(*gradients)


def adapted(base: nn.Linear, kind: type[LoraLinear] = LoraLinear, dropout: float = 0.0) -> LoraLinear:
    wrapper = kind(base.requires_grad_(False), rank=2, scale=1.5, dropout=dropout)
    for factor in (wrapper.lora_a, wrapper.lora_b):
        nn.init.normal_(factor)
    return wrapper


@pytest.mark.parametrize("frozen_input", [False, True])
def test_updates_and_their_gradients_are_those_of_the_matrices(frozen_input: bool) -> None:
    torch.manual_seed(0)
    bases = [nn.Linear(6, n, bias=n == 3).double() for n in (5, 3, 4)]
    layers = [adapted(bases[0]), bases[1].requires_grad_(False), adapted(bases[2])]
    x, slopes = torch.randn(2, 4, 6).double(), [torch.randn(2, 4, n).double() for n in (5, 3, 4)]
    factors = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    found = []
    for shared in (True, False):
        inputs = x.clone().requires_grad_(not frozen_input)
        if shared:
            results = project(inputs, *layers)
        else:
            updates = [
                1.5 * one.lora_b @ one.lora_a if isinstance(one, LoraLinear) else torch.zeros(())
                for one in layers
            ]
            results = tuple(
                functional.linear(inputs, base.weight + update, base.bias)
                for base, update in zip(bases, updates, strict=True)
            )
        wanted = factors if frozen_input else [inputs, *factors]
        total = torch.stack([(a * b).sum() for a, b in zip(results, slopes, strict=True)]).sum()
        found.append([*results, *torch.autograd.grad(total, wanted)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_pass_without_gradients_has_the_bits_of_one_with() -> None:
    torch.manual_seed(0)
    layers = [adapted(nn.Linear(64, n, bias=False)) for n in (48, 16, 16)]
    x = torch.randn(40, 64)
    with torch.no_grad():
        first = project(x, *layers)
    for one, other in zip(first, project(x.requires_grad_(), *layers), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["bias", "hook", "no gradient", "dropout", "rows", "start", "adapter hook"])
def test_layers_that_are_more_than_products_are_called(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [nn.Linear(6, 2, bias=kind == "bias") for _ in range(2)]
    layers: list[nn.Module] = [*plain]
    if kind in ("dropout", "rows", "start", "adapter hook"):
        classes = {"rows": DoraLinear, "start": PissaLinear}
        layers[1] = adapted(plain[1], classes.get(kind, LoraLinear), 0.5 if kind == "dropout" else 0.0)
        for name in ("lora_a_start", "lora_b_start", "magnitude"):
            if hasattr(layers[1], name):
                nn.init.ones_(getattr(layers[1], name))
    if kind in ("hook", "adapter hook"):
        layers[1].register_forward_hook(lambda *_: None)
    monkeypatch.setattr(projections, "_Shared", None)  # not called
    x = torch.randn(3, 6, requires_grad=kind != "no gradient")
    assert [one.shape for one in project(x, *layers)] == [(3, 2), (3, 2)]
