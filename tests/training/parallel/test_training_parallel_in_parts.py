"""A model that no process ever holds whole: read, drawn, trained, measured and written in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.model_folder import load_full_model, take_part_in_saving
from parakit.checkpoints.sharded.empty_weights import build_without_memory
from parakit.checkpoints.sharded.tensor_parts import copy_part
from parakit.common import Lineage
from parakit.common.errors import UserError
from parakit.common.processes import is_first, world_size
from parakit.common.seeds import seed_everything
from parakit.evaluation.perplexity import evaluate_loss
from parakit.training.objectives import next_token
from parakit.training.parallel.start import make_engine
from parakit.training.trainer import Trainer
from tests.training.parallel.forked import in_processes
from tests.training.parallel.spread_runs import HEADS
from tests.training.tiny_runs import tiny_model, tiny_plan, tiny_shards, tiny_source

# without losses that are means over a micro-batch
EXPERTS = {"n_experts": 4, "n_active_experts": 2, "balance_coef": 0.0, "router_z_coef": 0.0}


def parts_of(model: nn.Module) -> int:
    return sum(getattr(p, "_local_tensor", p).numel() for p in model.parameters())


def train(folder: Path, parallel: str, from_folder: bool, **changes: Any) -> dict[str, Any]:
    """Three steps, in parts where there are several processes; the model folder is written to `folder`."""
    settings = HEADS | {"dropout": 0.0, "tie_embeddings": False} | changes
    if from_folder:
        device = "meta" if world_size() > 1 else "cpu"
        model: Any = load_full_model(folder.parent / "start", device, "float32")[0]
    elif world_size() > 1:
        seed_everything(0)  # as `tiny_model` does, which draws later here
        model = build_without_memory(lambda: tiny_model(**settings), copy_part)
    else:
        model = tiny_model(**settings)
    n_parameters = sum(p.numel() for p in model.parameters())
    plan = tiny_plan(max_steps=3, parallel=parallel, in_parts=world_size() > 1)
    trainer = Trainer(model, tiny_source(), next_token, plan, None, engine=make_engine(plan, n_parameters))
    losses = [record.loss for record in trainer.steps()]
    (measured,) = trainer.by_first(
        "loss", lambda: [evaluate_loss(model, tiny_shards(1), seq_len=12).objective]
    )
    after = [record.loss for record in trainer.steps()]  # measuring leaves the weights in parts
    trainer.engine.release()
    held = parts_of(model)
    if is_first():
        save_model(model, None, folder, Lineage("model"))
    else:
        take_part_in_saving(model)
    return {"losses": losses, "measured": measured, "after": after, "share": held / n_parameters}


@pytest.mark.parametrize(
    ("n", "parallel", "from_folder", "changes"),
    [
        (2, "shard", True, {}),
        pytest.param(2, "shard", False, {}, marks=pytest.mark.long),
        pytest.param(2, "tensor", True, {"tie_embeddings": True}, marks=pytest.mark.long),
        pytest.param(4, "data=2,shard=2", False, {"tie_embeddings": True}, marks=pytest.mark.long),
        pytest.param(4, "shard=2,tensor=2", True, {}, marks=pytest.mark.long),
        pytest.param(2, "shard,expert=2", True, EXPERTS, marks=pytest.mark.long),
    ],
)
def test_a_model_in_parts_is_that_of_one_process(
    n: int, parallel: str, from_folder: bool, changes: dict[str, Any], tmp_path: Path
) -> None:
    if from_folder:
        start = tiny_model(**HEADS | {"tie_embeddings": False} | changes)
        with torch.no_grad():
            for parameter in start.parameters():
                parameter.normal_(std=0.2)
        save_model(start, None, tmp_path / "start", Lineage("model"))
    wanted = train(tmp_path / "wanted", "auto", from_folder, **changes)
    found = in_processes(n, train_of, tmp_path / "found", parallel, from_folder, changes)
    n_copies = 2 if "data" in parallel else 1
    for one in found:
        assert one["losses"] == pytest.approx(wanted["losses"], rel=1e-5)
        assert one["measured"] == pytest.approx(wanted["measured"], rel=1e-5)
        assert one["after"] == found[0]["after"]
        assert one["share"] < 1.2 * n_copies / n
    saved, expected = (load_model(tmp_path / name)[0].state_dict() for name in ("found", "wanted"))
    assert saved.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(saved[name], tensor, rtol=0, atol=2e-4, msg=name)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("found", "wanted")]
    assert sizes[0] == sizes[1]


def train_of(folder: Path, parallel: str, from_folder: bool, changes: dict[str, Any]) -> dict[str, Any]:
    return train(folder, parallel, from_folder, **changes)


def refusal(parallel: str) -> str:
    plan = tiny_plan(max_steps=3, parallel=parallel, in_parts=True)
    with pytest.raises(UserError) as error:
        make_engine(plan, 1000)
    return str(error.value)


def test_a_layout_with_whole_copies_is_refused() -> None:
    assert "there is one process" in refusal("auto")
    assert "gives every process all the weights" in in_processes(2, refusal, "data")[0]
