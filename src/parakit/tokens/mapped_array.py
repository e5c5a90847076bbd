"""Arrays of token shards in their files: memory-mapped on a disk, read by range on object storage."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from parakit.common.errors import CorruptArtifact
from parakit.common.remote import view_of
from parakit.common.remote_array import RemoteArray

RESTORE = "restore it from a copy, or delete the folder and write the shards again"


def map_array(path: Path, dtype: str, n: int) -> np.ndarray:
    """The `n` values in the file `path`; `CorruptArtifact` where it has another size."""
    view = None if path.is_file() else view_of(path.parent)
    size = path.stat().st_size if path.is_file() else (view or {"large": {}})["large"].get(path.name, -1)
    if size != n * np.dtype(dtype).itemsize:
        raise CorruptArtifact(f"{path}: has {size} bytes instead of {n * np.dtype(dtype).itemsize}", RESTORE)
    if view:
        return cast(np.ndarray, RemoteArray(f"{view['url']}/{path.name}", dtype, n))
    return np.memmap(path, dtype=dtype, mode="r", shape=(n,)) if n else np.empty(0, dtype)
