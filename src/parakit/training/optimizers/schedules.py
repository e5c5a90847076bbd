"""Learning-rate schedules: the factor on the learning rate, a pure function of the optimizer step.

Warm-up-stable-decay (Hu et al. 2024, "MiniCPM") is constant, then decays linearly in the last part; cosine is Loshchilov
and Hutter 2017; inverse_sqrt decays with the root of the step (Vaswani et al. 2017, section 5.3; T5).
"""

from __future__ import annotations

import math

from parakit.training.config import TrainingPlan


def learning_rate_factor(plan: TrainingPlan, step: int) -> float:
    """The factor on the learning rate at `step` (0 is the first), between 0 and 1."""
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(1, plan.max_steps - plan.warmup_steps)
    if plan.schedule == "wsd":
        decay = min(1.0, (1 - done) / plan.decay_fraction) if plan.decay_fraction else 1.0
    elif plan.schedule == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * done))
    elif plan.schedule == "inverse_sqrt":
        decay = math.sqrt(max(1, plan.warmup_steps) / (step + 1))
    else:
        decay = 1.0
    return plan.final_fraction + (1 - plan.final_fraction) * decay
