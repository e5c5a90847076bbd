"""Weights, gradients and moments in parts: `fully_shard` by block, on the mesh of a layout.

Each block's weights are gathered before it runs and dropped after it; its gradients are reduced once in a step, in the
backward pass of the last micro-batch. What is outside the blocks (embeddings, head, final norm) is one group more, which is
spread over the processes that share matrices too: they hold equal copies of it otherwise.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

from parakit.training.parallel.experts import expert_layers
from parakit.training.parallel.layout import Layout


def make_mesh(layout: Layout, device: torch.device) -> DeviceMesh:
    """The mesh (data, shard, tensor) of all processes."""
    sizes = (layout.data, layout.shard, layout.tensor)
    return init_device_mesh(device.type, sizes, mesh_dim_names=("data", "shard", "tensor"))


def same_start(model: nn.Module) -> None:
    """Give every process the first one's weights and buffers."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            content = tensor.detach().cpu().contiguous()
            dist.broadcast(content, 0)
            tensor.copy_(content)


def expert_mesh(layout: Layout, device: torch.device) -> DeviceMesh:
    """The same processes as (those that hold the same experts, those that share them, tensor)."""
    sizes = (layout.n_shares // layout.expert, layout.expert, layout.tensor)
    return init_device_mesh(device.type, sizes, mesh_dim_names=("same", "expert", "tensor"))


def shard_model(
    root: nn.Module,
    blocks: list[nn.Module],
    layout: Layout,
    mesh: DeviceMesh,
    offload: bool = False,
    of_experts: DeviceMesh | None = None,
) -> Any:
    """Shard `blocks` and what is left of `root` in place; returns `root`. `offload`: parts, gradients and moments are kept
    in the memory of the host, where the optimizer then runs. `of_experts`: the mesh that experts were spread over.
    """
    policy = CPUOffloadPolicy() if offload else OffloadPolicy()
    ignored: set[nn.Parameter] = set()
    if layout.n_shares == 1:
        ignored = {parameter for block in blocks for parameter in block.parameters()}
    else:
        of_blocks = mesh["shard"] if layout.data == 1 else mesh["data", "shard"]
        if of_experts is not None:
            ignored = _shard_experts(blocks, layout, of_blocks, of_experts, policy)
        for block in blocks:
            fully_shard(
                block,
                mesh=of_blocks,
                reshard_after_forward=True,
                offload_policy=policy,
                ignored_params=ignored,
            )
    return fully_shard(
        root,
        mesh=_mesh_of_rest(layout, mesh),
        reshard_after_forward=False,
        offload_policy=policy,
        ignored_params=ignored,
    )


def _shard_experts(
    blocks: list[nn.Module],
    layout: Layout,
    of_blocks: DeviceMesh,
    of_experts: DeviceMesh,
    policy: OffloadPolicy,
) -> set[nn.Parameter]:
    """Shard each layer's experts over the processes that hold the same ones, and the rest of the layer as a block is.
    Returns the experts that no two processes hold, which are reduced by nobody.
    """
    alone: set[nn.Parameter] = set()
    for layer in expert_layers(blocks):
        if layout.n_shares == layout.expert:
            alone.update(layer.parameters(recurse=False))
            continue
        for child in layer.children():
            fully_shard(child, mesh=of_blocks, offload_policy=policy)
        fully_shard(layer, mesh=of_experts["same"], offload_policy=policy)
    return alone


def _mesh_of_rest(layout: Layout, mesh: DeviceMesh) -> DeviceMesh:
    """The mesh of what is outside the blocks."""
    n_shards = layout.shard * layout.tensor
    if layout.data == 1:
        return init_device_mesh(mesh.device_type, (n_shards,), mesh_dim_names=("rest",))
    sizes = (layout.data, n_shards)
    return init_device_mesh(mesh.device_type, sizes, mesh_dim_names=("data", "rest"))


def n_distinct(tensor: Any) -> int:
    """In how many different parts the processes hold a tensor; 1 for a plain one."""
    if not hasattr(tensor, "placements"):
        return 1
    sizes: tuple[int, ...] = tuple(tensor.device_mesh.shape)
    n = 1
    for size, placement in zip(sizes, tensor.placements, strict=True):
        n *= 1 if placement.is_replicate() else size
    return n
