"""Parameters of which a process holds a part: filled from a whole tensor, and made whole, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def is_in_parts(parameter: object) -> bool:
    """Whether a process holds a part of it."""
    return hasattr(parameter, "placements")


def copy_part(target: Any, values: torch.Tensor, index: int | None = None) -> None:
    """Copy the part of `values` that this process holds of `target`, or of the entry `index` of its first dimension. Of a
    memory-mapped tensor only that part is read.
    """
    if not is_in_parts(target):
        (target if index is None else target[index]).copy_(values)
        return
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    sizes, offsets = compute_local_shape_and_global_offset(
        target.shape, target.device_mesh, target.placements
    )
    own = target.to_local()
    if index is not None:
        if not offsets[0] <= index < offsets[0] + sizes[0]:
            return
        own, sizes, offsets = own[index - offsets[0]], sizes[1:], offsets[1:]
    own.copy_(values[tuple(slice(start, start + n) for start, n in zip(offsets, sizes, strict=True))])


def whole(parameter: Any) -> torch.Tensor:
    """The parameter's values; of one in parts those of all processes, which all call this."""
    values = parameter.detach()
    found: torch.Tensor = values.full_tensor() if is_in_parts(parameter) else values
    return found
