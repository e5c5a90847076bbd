"""Students initialised from a subset of their teacher's blocks.

The blocks are evenly spaced from the first to the last; for 6 of 12 layers they are DistilBERT's (0, 2, 4, 7, 9, 11; Sanh et
al. 2019). Embedding, final norm and head are copied, so the width is the teacher's. No tensor is shared.
"""

from __future__ import annotations

import torch

from parakit.checkpoints.publisher import carry_publisher
from parakit.common.errors import UserError
from parakit.compression.distillation.teacher import Predictor
from parakit.model.config import DecoderConfig, EncoderConfig
from parakit.model.quantized import is_quantized


def select_layers(n_layers: int, n_kept: int) -> list[int]:
    """The indices of `n_kept` of `n_layers` blocks. `UserError` where `n_kept` is out of range."""
    if not 1 <= n_kept <= n_layers:
        raise UserError(
            f"keep_layers = {n_kept}, and the teacher has {n_layers} layers",
            f"set keep_layers to {max(1, n_layers // 2)}: 1 to {n_layers} are possible",
        )
    if n_kept == 1:
        return [0]
    return [round(i * (n_layers - 1) / (n_kept - 1)) for i in range(n_kept)]


def config_from_layers(shape: DecoderConfig | EncoderConfig, n_kept: int) -> DecoderConfig | EncoderConfig:
    """The teacher's config with fewer layers; each keeps whether it is local or dense."""
    kept = select_layers(shape.n_layers, n_kept)
    layer_lists = {
        name: tuple(new for new, old in enumerate(kept) if old in getattr(shape, name))
        for name in ("local_layers", "dense_layers")
        if getattr(shape, name) is not None
    }
    return shape.replace(n_layers=n_kept, **layer_lists)


@torch.no_grad()
def student_from_layers(teacher: Predictor, n_kept: int) -> Predictor:
    """A student of `n_kept` layers with copies of the teacher's weights. `UserError` for a quantized teacher, whose weights
    are no start for training.
    """
    if is_quantized(teacher):
        raise UserError(
            "the teacher's weights are quantized, and a student of its layers needs plain ones",
            "give the student a size of its own, or take the plain model as teacher",
        )
    kept = select_layers(teacher.config.n_layers, n_kept)
    student = type(teacher)(config_from_layers(teacher.config, n_kept))  # type: ignore[arg-type]
    student.to(teacher.lm_head.weight)
    places = {old: new for new, old in enumerate(kept)}
    state = {}
    for name, tensor in teacher.state_dict().items():
        if name.startswith("trunk.blocks."):
            number, _, rest = name.removeprefix("trunk.blocks.").partition(".")
            if int(number) not in places:
                continue
            name = f"trunk.blocks.{places[int(number)]}.{rest}"
        state[name] = tensor
    student.load_state_dict(state)
    carry_publisher(teacher, student)
    return student
