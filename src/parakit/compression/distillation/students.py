"""Students that begin as a part of their teacher: some of its blocks, and everything around them.

The blocks are spread evenly from the first to the last, which for 12 layers and 6 gives DistilBERT's own choice (0, 2,
4, 7, 9, 11; Sanh et al. 2019). Embedding, final norm and head are taken over as they are, so the width stays the
teacher's. Weights are copied: nothing is shared.
"""

from __future__ import annotations

import torch

from parakit.common.errors import UserError
from parakit.compression.distillation.teacher import Predictor
from parakit.model.config import DecoderConfig, EncoderConfig


def select_layers(n_layers: int, n_kept: int) -> list[int]:
    """Which of `n_layers` blocks a student of `n_kept` takes. `UserError` where it cannot have so many."""
    if not 1 <= n_kept <= n_layers:
        raise UserError(
            f"keep_layers = {n_kept}, and the teacher has {n_layers} layers",
            f"keep 1 to {n_layers} of them",
        )
    if n_kept == 1:
        return [0]
    return [round(i * (n_layers - 1) / (n_kept - 1)) for i in range(n_kept)]


def config_from_layers(shape: DecoderConfig | EncoderConfig, n_kept: int) -> DecoderConfig | EncoderConfig:
    """The teacher's shape with fewer layers; which of them look around locally or have no experts goes with them."""
    kept = select_layers(shape.n_layers, n_kept)
    moved = {
        name: tuple(new for new, old in enumerate(kept) if old in getattr(shape, name))
        for name in ("local_layers", "dense_layers")
        if getattr(shape, name) is not None
    }
    return shape.replace(n_layers=n_kept, **moved)


@torch.no_grad()
def student_from_layers(teacher: Predictor, n_kept: int) -> Predictor:
    """A student of `n_kept` layers with the teacher's weights. The teacher is not changed."""
    kept = select_layers(teacher.config.n_layers, n_kept)
    student = type(teacher)(config_from_layers(teacher.config, n_kept))  # type: ignore[arg-type]
    student.to(teacher.lm_head.weight)
    places = {old: new for new, old in enumerate(kept)}
    taken = {}
    for name, tensor in teacher.state_dict().items():
        if name.startswith("trunk.blocks."):
            number, _, rest = name.removeprefix("trunk.blocks.").partition(".")
            if int(number) not in places:
                continue
            name = f"trunk.blocks.{places[int(number)]}.{rest}"
        taken[name] = tensor
    student.load_state_dict(taken)
    return student
