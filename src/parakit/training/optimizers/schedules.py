"""Learning-rate schedules: the factor on the learning rate, a pure function of the optimizer step.

Warm-up-stable-decay (Hu et al. 2024, "MiniCPM") is constant, then decays linearly in the last part; linear decays from the
warm-up to the end; cosine is Loshchilov and Hutter 2017; inverse_sqrt decays with the root of the step (Vaswani et al. 2017,
section 5.3; T5).
"""

from __future__ import annotations

import math

from parakit.training.config import TrainingPlan
from parakit.training.parallel.settings import PLACES

# What may differ between two plans with the same first steps: the lengths, of which the rates and batches below follow,
# and when to measure and to save.
_LENGTHS = {
    *("max_steps", "warmup_steps", "decay_fraction", "final_fraction", "batch_growth"),
    *("validate_every", "save_every"),
}


def plan_differences(saved: TrainingPlan, plan: TrainingPlan, step: int) -> list[str]:
    """The settings in which the first `step` steps of two plans differ; empty where a checkpoint of one after `step` steps
    is also the other's.
    """
    different = sorted(
        name for name in TrainingPlan.model_fields if getattr(saved, name) != getattr(plan, name)
    )
    same = all(
        learning_rate_factor(saved, i) == learning_rate_factor(plan, i)
        and saved.rows_at(i) == plan.rows_at(i)
        for i in range(step)
    )
    return [name for name in different if name not in PLACES and (not same or name not in _LENGTHS)]


def learning_rate_factor(plan: TrainingPlan, step: int) -> float:
    """The factor on the learning rate at `step` (0 is the first), between 0 and 1."""
    warmup_steps = plan.warmup_at(step)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = plan.progress(step, warmup_steps)
    if plan.schedule == "wsd":
        decay = min(1.0, (1 - done) / plan.decay_fraction) if plan.decay_fraction else 1.0
    elif plan.schedule == "linear":
        decay = 1 - done
    elif plan.schedule == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * done))
    elif plan.schedule == "inverse_sqrt":
        decay = math.sqrt(max(1, warmup_steps) / (step + 1))
    else:
        decay = 1.0
    return plan.final_fraction + (1 - plan.final_fraction) * decay
