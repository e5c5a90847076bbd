"""How fast this machine trains a model: by its calibration where `parakit plan` has made one, else by its peak."""

from __future__ import annotations

import torch

from parakit.common.devices import pick_device
from parakit.planning.runs import RunMethod
from parakit.planning.time import TrainingSpeed, speed_of_peak, speed_on
from parakit.stages.planning.measuring import this_machine_if_known
from parakit.training.config import TrainingConfig
from parakit.training.throughput import measure_peak_flops


def training_speed(training: TrainingConfig, seq_len: int, method: RunMethod = "pretrain") -> TrainingSpeed:
    """Tokens per second of training a model of a config on the device of `training`, in rows of `seq_len` tokens. A
    calibration is of a processor and a number of threads; without it a quarter of a second is spent on measuring the peak.
    """
    device = pick_device(training.device)
    machine = this_machine_if_known() if device.type == "cpu" else None
    if machine is not None:
        precision = "float32" if training.precision == "auto" else training.precision
        return speed_on(machine, seq_len, method=method, precision=precision)
    peak = measure_peak_flops(device.type, torch.float32 if device.type == "cpu" else torch.bfloat16)
    return speed_of_peak(peak, seq_len)
