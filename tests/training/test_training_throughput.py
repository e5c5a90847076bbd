"""What a step multiplies, against PyTorch's own count of the operations that it runs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from parakit.training.micro_batches import to_micro_batch
from parakit.training.throughput import training_flops
from tests.training.tiny_tasks import TASKS, language_model, woken

WIDE: dict[str, Any] = {"d_model": 48, "n_heads": 4, "n_kv_heads": 4, "head_dim": 12, "d_ff": 96}


@pytest.mark.parametrize("name", ["next_token", "masked", "span", "classify", "tag", "embed"])
def test_operations_are_those_that_run(name: str) -> None:
    task = TASKS[name]
    model, batch = woken(task.model(**WIDE)), to_micro_batch(task.source().rows(0, 16), torch.device("cpu"))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        task.objective(model, batch).backward()
    # Heads of labels are left out, and the mean over a causal mask is half of what the plain kernel multiplies.
    assert training_flops(model.config, batch) == pytest.approx(counter.get_total_flops(), rel=0.12)


def test_of_experts_only_those_count_that_a_token_passes() -> None:
    batch = to_micro_batch(TASKS["next_token"].source().rows(0, 4), torch.device("cpu"))
    shape = {"n_experts": 4, "n_active_experts": 1, "d_expert": 64, "d_ff": 64}
    experts, dense = language_model(**shape), language_model(d_ff=64)
    routers = 6 * batch.n_tokens * 2 * 4 * 12  # layers, experts, width
    more = training_flops(experts.config, batch) - training_flops(dense.config, batch)
    assert more == pytest.approx(routers)


FAULTS = """
import resource, torch
from parakit.training.threads import kept_memory

def pages():
    torch.ones(2**24)  # 64 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept_memory() as done:
    print(int(done), pages())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc only")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    could, inside = map(int, done.stdout.split())
    assert not could or inside < 5 * 2**14  # pages that the system has given: without it those of ten tensors
