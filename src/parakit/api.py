"""Loading a model. `import parakit` imports this module, and torch, on first use; the commands call the same functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parakit.inference.loaded_model import Model
from parakit.recipe.build_folder import resolve_model_folder


def load(
    path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapters: Sequence[str | Path] = (),
) -> Model:
    """Load a model: the folder of a build (its last model), a model folder of Parakit's or a published one, or an
    adapter's folder (on its base).

    `device`: auto, cpu, cuda, cuda:1, mps; `dtype`: auto (bfloat16 on a GPU, else float32), float32, bfloat16, float16,
    float64. `adapters`: folders of further adapters; the first is switched on. Raises `UserError` for a folder that holds
    no model, or whose files are damaged.
    """
    return Model.load(resolve_model_folder(path), device=device, dtype=dtype, adapters=adapters)
