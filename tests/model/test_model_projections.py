"""Layers of one input whose gradients are added up in place give the gradients of the layers one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from parakit.model.layers import projections
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


@pytest.mark.parametrize("kind", ["bias", "frozen", "hook", "no gradient"])
def test_layers_that_are_more_than_a_matrix_are_called(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [nn.Linear(6, 2, bias=kind == "bias") for _ in range(2)]
    if kind == "frozen":
        layers[1].requires_grad_(False)
    if kind == "hook":
        layers[1].register_forward_hook(lambda *_: None)
    monkeypatch.setattr(projections, "_Shared", None)  # not called
    x = torch.randn(3, 6, requires_grad=kind != "no gradient")
    assert [one.shape for one in project(x, *layers)] == [(3, 2), (3, 2)]
