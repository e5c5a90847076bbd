"""The kernels of a training step against PyTorch in float64, and what they leave to PyTorch."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.kernels import load_training_kernels, training
from parakit.model.kernels.library import OPENMP
from parakit.model.layers.positions import RotaryPositions

pytestmark = pytest.mark.skipif(load_training_kernels() is None, reason="no C++ compiler")

Function = Callable[..., Tensor | None]


def heads(x: Tensor) -> Tensor:
    """(2, 7, 96) -> (2, 3, 7, 32), as attention splits them: a view whose tokens come first in memory."""
    return x.view(2, 7, 3, 32).transpose(1, 2)


def assert_equal(computed: Function, reference: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Results and gradients of all inputs, to a few units in the last place of float32."""
    single = [one.clone().requires_grad_() for one in inputs]
    exact = [one.double().requires_grad_() for one in inputs]
    result, expected = computed(*single), reference(*exact)
    assert result is not None
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-6)
    slope = torch.randn_like(result)
    result.backward(slope)
    expected.backward(slope.double())
    for one, other in zip(single, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(
            one.grad.double(), other.grad, rtol=1e-5, atol=2e-6 * float(other.grad.abs().max())
        )


@pytest.mark.parametrize("shape", [(5, 33), (2, 130, 96), (200, 1)])
def test_rms_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    width = shape[-1]
    assert_equal(
        lambda x, w: training.rms_norm(x, w, 1e-6),
        lambda x, w: functional.rms_norm(x, (width,), w, 1e-6),
        torch.randn(shape) * 3,
        torch.randn(width),
    )


def test_rms_norm_of_heads() -> None:
    torch.manual_seed(0)
    assert_equal(
        lambda x, w: training.rms_norm(heads(x), w, 1e-6),
        lambda x, w: functional.rms_norm(heads(x), (32,), w, 1e-6),
        torch.randn(2, 7, 96),
        torch.randn(32),
    )


def test_a_gradient_is_the_same_for_any_number_of_threads() -> None:
    torch.manual_seed(0)
    x, found = torch.randn(1000, 24), []
    n_threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            weight = nn.Parameter(torch.ones(24))
            y = training.rms_norm(x, weight, 1e-6)
            assert y is not None
            y.square().sum().backward()
            assert weight.grad is not None
            found.append(weight.grad.tolist())
    finally:
        torch.set_num_threads(n_threads)
    assert all(one == found[0] for one in found)


ON_THREADS = """
import os, torch
from parakit.model.kernels import training

torch.set_num_threads(3)
x = torch.randn(4096, 64)
torch.randn(2**20).exp()  # PyTorch's threads are there from now on
before = os.listdir("/proc/self/task")
y = training.rms_norm(x, torch.ones(64), 1e-6)
weight = torch.ones(64, requires_grad=True)
training.rms_norm(x, weight, 1e-6).sum().backward()
after = os.listdir("/proc/self/task")
torch.testing.assert_close(y, torch.nn.functional.rms_norm(x, (64,), None, 1e-6))
print(len(before), len(set(after) - set(before)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize(("limit", "n_threads"), [(None, 3), (1, 1), (2, 2)])
def test_kernels_run_on_pytorchs_threads(limit: int | None, n_threads: int) -> None:
    """A second pool would wait until the first one's threads stop spinning. The runtime may give fewer than asked for."""
    if not hasattr(ctypes.CDLL(None), OPENMP[0]):
        pytest.skip("this PyTorch has another runtime")
    given = {} if limit is None else {"OMP_THREAD_LIMIT": str(limit)}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | given
    done = subprocess.run(
        [sys.executable, "-c", ON_THREADS], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    n_before, n_new = map(int, done.stdout.split())
    assert n_before >= n_threads
    assert n_new == 0


def test_swiglu_and_its_matrix() -> None:
    torch.manual_seed(0)
    gate, up, down = torch.randn(3, 7, 101) * 4, torch.randn(3, 7, 101), nn.Linear(101, 40, bias=False)
    exact = nn.Parameter(down.weight.detach().double())
    assert_equal(training.swiglu, lambda g, u: functional.silu(g) * u, gate, up)
    assert_equal(
        lambda g, u: training.swiglu_down(g, u, down),
        lambda g, u: (functional.silu(g) * u) @ exact.T,
        gate,
        up,
    )
    slopes = torch.randn(3, 7, 40)
    down.weight.grad = None
    exact = nn.Parameter(exact.detach())
    result = training.swiglu_down(gate, up, down)
    assert result is not None
    result.backward(slopes)
    ((functional.silu(gate.double()) * up.double()) @ exact.T).backward(slopes.double())
    assert exact.grad is not None
    torch.testing.assert_close(down.weight.grad, exact.grad.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("by_row", [False, True])
def test_rotary_positions(by_row: bool) -> None:
    torch.manual_seed(0)
    cos, sin = RotaryPositions(32, 64, 1e4)(torch.randint(0, 64, (2, 7)) if by_row else torch.arange(7))

    def exact(x: Tensor) -> Tensor:
        left, right = heads(x).chunk(2, -1)
        return heads(x) * cos.double() + torch.cat([-right, left], -1) * sin.double()

    assert_equal(lambda x: training.rotated(heads(x), cos, sin), exact, torch.randn(2, 7, 96))
    assert_equal(lambda x: training.rotated(heads(x).contiguous(), cos, sin), exact, torch.randn(2, 7, 96))


@pytest.mark.parametrize("by_row", [False, True])
def test_norm_and_rotation_in_one_pass(by_row: bool) -> None:
    torch.manual_seed(0)
    cos, sin = RotaryPositions(32, 64, 1e4)(torch.randint(0, 64, (2, 7)) if by_row else torch.arange(7))

    def exact(x: Tensor, weight: Tensor) -> Tensor:
        normed = functional.rms_norm(heads(x), (32,), weight, 1e-6)
        left, right = normed.chunk(2, -1)
        return normed * cos.double() + torch.cat([-right, left], -1) * sin.double()

    x, weight = torch.randn(2, 7, 96), torch.randn(32)
    assert_equal(lambda x, w: training.normed_and_rotated(heads(x), w, 1e-6, cos, sin), exact, x, weight)
    assert training.normed_and_rotated(heads(x), weight[:16], 1e-6, cos, sin) is None


@pytest.mark.parametrize("vocab_size", [1, 37, 5001])
def test_cross_entropy(vocab_size: int) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(9, vocab_size) * 5, torch.randint(0, vocab_size, (9,))
    exact = logits.double().requires_grad_()
    expected = functional.cross_entropy(exact, targets, reduction="none")
    expected.sum().backward()
    losses = training.cross_entropy_gradient(logits, targets)
    assert losses is not None
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-5, atol=2e-6)
    assert exact.grad is not None
    torch.testing.assert_close(logits.double(), exact.grad, rtol=1e-5, atol=1e-6)


def test_losses_that_are_not_finite_stay_so() -> None:
    logits = torch.zeros(2, 20)
    logits[0, 3], logits[1, 3] = torch.inf, torch.nan
    losses = training.cross_entropy_gradient(logits, torch.tensor([1, 1]))
    assert losses is not None
    assert not losses.isfinite().any()


def test_what_the_kernels_leave_to_pytorch() -> None:
    x, weight = torch.randn(4, 8), torch.ones(8)
    assert training.rms_norm(x.double(), weight.double(), 1e-6) is None
    assert training.rms_norm(torch.randn(8, 4).T, weight, 1e-6) is None
    assert training.rms_norm(x[:0], weight, 1e-6) is None
    assert training.swiglu(x.bfloat16(), x.bfloat16()) is None
    assert training.cross_entropy_gradient(x, torch.tensor([0, 1, 2, 8])) is None  # no such class
    with torch.autocast("cpu", torch.bfloat16):
        assert training.rms_norm(x, weight, 1e-6) is None
    hooked = nn.Linear(8, 4, bias=False)
    hooked.register_forward_hook(lambda *_: None)
    assert training.swiglu_down(x, x, hooked) is None
    assert training.swiglu_down(x, x, nn.Linear(8, 4)) is None  # with a bias
    assert training.swiglu_down(x, x, nn.Linear(8, 4, bias=False).requires_grad_(False)) is None
