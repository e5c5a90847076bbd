"""Files of tensors that come one at a time: the bytes of the safetensors library."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from parakit.checkpoints.safetensors_io import write_weight_shards
from parakit.checkpoints.sharded.streamed_tensors import TensorShape, stored_name, stream_weight_shards


def mixed() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "b.weight": torch.randn(3, 5),
        "a.weight": torch.randn(7).half(),
        "é": torch.randn(2, 2).bfloat16(),
        "c": torch.randn(()).double(),
        "a.bias": torch.randn(4, 6).T,
        "none": torch.zeros(0, 3),
    }


def shapes_of(tensors: dict[str, torch.Tensor]) -> list[TensorShape]:
    return [TensorShape(name, tuple(t.shape), stored_name(t.dtype)) for name, t in tensors.items()]


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    tensors = mixed()
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(plain, tmp_path / "wanted", metadata={"format": "pt"})
    stream_weight_shards(shapes_of(tensors), tensors.items(), tmp_path, 10**9)
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "wanted").read_bytes()


def test_shards_and_index_are_those_of_whole_tensors(tmp_path: Path) -> None:
    tensors = mixed()
    for name in ("whole", "streamed"):
        (tmp_path / name).mkdir()
    write_weight_shards(tensors.items(), tmp_path / "whole", 100)
    stream_weight_shards(shapes_of(tensors), tensors.items(), tmp_path / "streamed", 100)
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(wanted) == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "streamed").iterdir()} == wanted
    index = json.loads(wanted["model.safetensors.index.json"])
    assert index["metadata"]["total_parameters"] == sum(tensor.numel() for tensor in tensors.values())
