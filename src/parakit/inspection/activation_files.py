"""Named arrays in a safetensors file, which numpy, torch and other languages read, with a JSON file that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from parakit.common.files import JsonObject, write_json_atomic, writing_file


def write_activations(path: str | Path, arrays: Mapping[str, np.ndarray], about: JsonObject) -> None:
    """Write `arrays` to `path` and `about` next to it as .json, each whole or not at all."""
    from safetensors.numpy import save

    path = Path(path)
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    with writing_file(path) as file:
        file.write(data)
    write_json_atomic(path.with_suffix(".json"), about)
