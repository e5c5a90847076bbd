"""Teachers and students of a few thousand parameters, in float64, and a derivation of what one teaches the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.common.seeds import seed_everything
from parakit.compression.config import DistillConfig
from parakit.compression.distillation.teacher import Teacher
from parakit.training.micro_batches import to_micro_batch
from tests.training.tiny_tasks import TASKS, VOCAB_SIZE, language_model, masked_model, woken

CPU = torch.device("cpu")
MODELS = {"next_token": language_model, "masked": masked_model}


def pair(name: str = "next_token", dtype: torch.dtype = torch.float64, **changes: Any) -> tuple[Any, Teacher]:
    """A student, and a teacher of the same vocabulary with three layers of another width."""
    seed_everything(1)
    shape = {"d_model": 18, "n_layers": 3, "n_heads": 3, "n_kv_heads": 3} | changes
    teacher = woken(MODELS[name](**shape)).to(dtype)
    return woken(MODELS[name]()).to(dtype), Teacher(teacher)


def rows(name: str = "next_token", n_rows: int = 6) -> Any:
    return TASKS[name].source().rows(2, n_rows)


def micro(batch: Any) -> Any:
    return to_micro_batch(batch, CPU)


def outputs(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Hidden vectors (B, T, D) and logits (B, T, V), every place through the head."""
    hidden = model.hidden(
        batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
    )
    return hidden, model.logits(hidden)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def derived(
    p: np.ndarray, q: np.ndarray, direction: str, teacher_share: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """The divergence of each place, and what it changes by with the student's scaled logits."""
    if direction == "forward":
        return (p * np.log(p / q)).sum(-1), q - p
    if direction == "reverse":
        each = (q * np.log(q / p)).sum(-1)
        return each, q * (np.log(q / p) - each[..., None])
    b, m = teacher_share, teacher_share * p + (1 - teacher_share) * q
    each = b * (p * np.log(p / m)).sum(-1) + (1 - b) * (q * np.log(q / m)).sum(-1)
    of_q = (1 - b) * np.log(q / m)
    return each, q * (of_q - (q * of_q).sum(-1, keepdims=True))


def reference(student: Any, teacher: Any, batch: Any, settings: DistillConfig) -> float:
    """The summed loss, worked out by hand; its gradient is led back through the student."""
    (hidden, logits), (their_hidden, their_logits) = outputs(student, batch), outputs(teacher, batch)
    z, heat, share = logits.detach().numpy(), settings.distill_temperature, settings.hard_label_share
    counted = np.ones(z.shape[:2], bool) if batch.loss_mask is None else batch.loss_mask.numpy()
    p, q = softmax(their_logits.detach().numpy() / heat), softmax(z / heat)
    each, slope = derived(p, q, settings.divergence, getattr(settings, "teacher_share", 0.5))
    wanted, plain = np.eye(VOCAB_SIZE)[batch.target_ids.numpy()], softmax(z)
    loss = (1 - share) * heat**2 * each - share * np.log((wanted * plain).sum(-1))
    of_logits = (1 - share) * heat * slope + share * (plain - wanted)
    leaves = [logits], [torch.from_numpy(of_logits * counted[..., None])]
    if settings.hidden_coef:
        student_hidden, teacher_hidden = hidden.detach().numpy(), their_hidden.detach().numpy()
        lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (student_hidden, teacher_hidden)]
        student_hidden, teacher_hidden = student_hidden / lengths[0], teacher_hidden / lengths[1]
        cosine = (student_hidden * teacher_hidden).sum(-1)
        loss = loss + settings.hidden_coef * (1 - cosine)
        of_hidden = -settings.hidden_coef * (teacher_hidden - student_hidden * cosine[..., None]) / lengths[0]
        leaves = [logits, hidden], [*leaves[1], torch.from_numpy(of_hidden * counted[..., None])]
    torch.autograd.backward(*leaves)
    return float(loss[counted].sum())
