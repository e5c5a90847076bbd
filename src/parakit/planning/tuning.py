"""What to train of a published model in a given time: all of its weights, or an adapter. Imports no torch.

A low-rank adapter learns as well as full tuning while its parameters can hold what the data teaches, about one bit for
each token that the loss counts against two bits for each parameter ("LoRA Without Regret", Schulman et al. 2025), and it
forgets less (Biderman et al. 2024). Beyond that, all weights are trained where the memory allows it.
"""

from __future__ import annotations

from typing import Literal

from parakit.common.formatting import byte_size, compact
from parakit.model.config import ModelConfig
from parakit.planning.run_memory import step_bytes
from parakit.planning.training_memory import FLOAT, StepShape

TOKENS_PER_ADAPTER_PARAMETER = 2.0
SHARE_OF_MEMORY = 0.7  # of all there is, whatever else uses it now: the choice is part of a build, and stays

TuningMethod = Literal["full", "lora"]


def choose_tuning(
    config: ModelConfig,
    n_adapter_params: int,
    n_learned: float,
    memory_bytes: float | None,
    *,
    seq_len: int,
    on_card: bool = False,
) -> tuple[TuningMethod, str]:
    """The method, and why. `n_learned`: different tokens that the loss counts in the time; `memory_bytes`: the device's,
    None where it is unknown; `seq_len`: of the one row at a time that has to fit.
    """
    n = config.n_params()["total"]
    needed = step_bytes(StepShape(config, FLOAT * n, n, "adamw", seq_len, seq_len, on_card=on_card)).peak
    if memory_bytes is not None and needed > SHARE_OF_MEMORY * memory_bytes:
        why = f"all weights need about {byte_size(needed)} of memory, and there are {byte_size(round(memory_bytes))}"
        return "lora", why
    held = TOKENS_PER_ADAPTER_PARAMETER * n_adapter_params
    amount = f"{compact(n_learned)} tokens to learn from in the time"
    adapter = f"an adapter of {compact(n_adapter_params)} parameters"
    if n_learned <= held:
        return "lora", f"{amount} fit into {adapter}, which forgets less"
    return "full", f"{amount} are more than {adapter} holds"
