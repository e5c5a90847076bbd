"""Devices, precisions, hardware and versions; and errors that carry the way out."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

import parakit
from parakit.common.devices import pick_device, pick_dtype
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.hardware import describe_hardware, n_cores, parakit_version, versions


def test_a_named_device_is_taken_and_auto_takes_one_that_works() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    torch.empty(1, device=pick_device("auto"))


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "tpu"])
def test_a_device_that_is_not_there_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(UserError, match="--device cpu"):
        pick_device(name)


def test_precision_is_picked_by_name_and_auto_is_float32_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert pick_dtype("auto", cpu) is torch.float32
    assert pick_dtype("bfloat16", cpu) is torch.bfloat16
    with pytest.raises(UserError, match="float32"):
        pick_dtype("int8", cpu)


def test_hardware_and_versions_are_plain_json() -> None:
    hardware = describe_hardware()
    assert json.loads(json.dumps(hardware)) == hardware
    assert hardware["cores"] == n_cores() >= 1
    assert versions()["torch"] == torch.__version__
    assert versions()["parakit"] == parakit_version() == parakit.__version__


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process to a core")
def test_cores_are_those_that_the_process_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from parakit.common.hardware import n_cores; print(n_cores())"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "1\n"
    )


def test_a_user_error_has_a_hint() -> None:
    assert str(UserError("a is 3, at most 2", "lower a")) == "a is 3, at most 2\n  lower a"
    assert str(UserError("a is 3")) == "a is 3"
    assert isinstance(CorruptArtifact("x"), UserError)
    assert isinstance(UserError("x"), ValueError)
