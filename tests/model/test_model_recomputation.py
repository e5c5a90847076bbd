"""Gradient checkpointing gives the gradients of PyTorch's own, and loads nothing that PyTorch's own would."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from parakit.model.layers.norms import dropout
from parakit.model.recomputation import recompute_in_backward

D = 6


class Sublayer(nn.Module):
    """Dropout, a tuple of tensors, a trained mask, a frozen and an unused parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.second.weight.requires_grad_(False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        inner = dropout(torch.tanh(self.first(x)), 0.3, self.training)
        if rotation is not None:
            inner = inner * rotation[0] + rotation[1]
        return x + self.second(inner) + (0 if mask is None else mask)


def own(block: nn.Module, *inputs: object) -> Tensor:
    return recompute_in_backward(block, *inputs)


def pytorch(block: nn.Module, *inputs: object) -> Tensor:
    return checkpoint(block, *inputs, use_reentrant=False)


def gradients(run, *, trained_input: bool, half: bool) -> list[Tensor | None]:
    torch.manual_seed(0)
    blocks = [Sublayer() for _ in range(3)]
    if not half:  # weights that two blocks share; autocast adds up their gradients in bfloat16 only where its copy is shared
        blocks[2] = blocks[0]
    x = torch.randn(3, D, requires_grad=trained_input)
    rotation = torch.randn(D), torch.randn(D)
    mask = torch.randn(3, D, requires_grad=True)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, half):
        y = x
        for block in blocks:
            y = run(block, y, rotation, mask)
        y = run(Sublayer(), y, None, None)
    (y.float() ** 2).sum().backward()
    after = torch.rand(2)  # the backward pass draws no numbers of the outer generator
    return [x.grad, mask.grad, *(p.grad for block in blocks for p in block.parameters()), after]


@pytest.mark.parametrize("trained_input", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_gradients_are_those_of_pytorch_bit_for_bit(trained_input: bool, half: bool) -> None:
    found = gradients(own, trained_input=trained_input, half=half)
    wanted = gradients(pytorch, trained_input=trained_input, half=half)
    assert [one is None for one in found] == [one is None for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one is None or torch.equal(one, other)


def test_only_inputs_are_kept_until_the_backward_pass() -> None:
    block, kept = Sublayer(), []
    x = torch.randn(3, D)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = recompute_in_backward(block, x, None, None)
    assert y.requires_grad
    parameters = {p.data_ptr() for p in block.parameters()}
    assert {t.data_ptr() for t in kept} <= parameters | {x.data_ptr()}


def test_pytorch_s_compiler_is_not_imported() -> None:
    program = (
        "import sys, torch\n"
        "from parakit.model.recomputation import recompute_in_backward\n"
        "recompute_in_backward(torch.nn.Linear(2, 2), torch.ones(1, 2)).sum().backward()\n"
        "print('sympy' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
