"""Models that get their weights later: the weights are those of a model that was built at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parakit.checkpoints.sharded.empty_weights import allocate, build_without_memory, fill_pending, is_pending
from tests.training.tiny_tasks import classifier, language_model, masked_model, pair_model


def fill(parameter: nn.Parameter, values: Tensor) -> None:
    parameter.copy_(values)


@pytest.mark.parametrize(
    "build",
    [
        language_model,
        lambda: language_model(tie_embeddings=False, n_experts=4, n_active_experts=2),
        lambda: language_model(attention_scale=0.3),
        masked_model,
        pair_model,
        classifier,
    ],
)
def test_weights_and_buffers_are_those_of_a_model_built_at_once(build: Callable[[], Any]) -> None:
    torch.manual_seed(3)
    wanted = build()
    torch.manual_seed(3)
    model = build_without_memory(build, fill)
    assert is_pending(model)
    assert all(parameter.is_meta for parameter in model.parameters())
    allocate(model, torch.device("cpu"))
    before = torch.get_rng_state()
    fill_pending(model)
    assert not is_pending(model)
    assert torch.equal(torch.get_rng_state(), before)
    state = model.state_dict()
    assert state.keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(state[name], tensor), name
    for name, buffer in wanted.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
