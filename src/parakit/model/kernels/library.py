"""The compiled kernels of inference and of training, loaded once per process; None where there are none, and plain PyTorch
runs.

PARAKIT_KERNELS=off switches them off.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from pathlib import Path

from parakit.common.hardware import n_cores
from parakit.common.progress import log
from parakit.model.kernels.build import BuildError, build_library
from parakit.model.kernels.layout import STRUCTURES, BatchLayout, CacheLayout, ModelLayout, Weight

SWITCH = "PARAKIT_KERNELS"
AHEAD = "inference"  # what is compiled while a training run begins
_compiling: dict[str, Future[Path]] = {}
# PyTorch's own runtime, which `import torch` has loaded: threads of a second one would fight for its processors.
OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
# The arguments of `csrc/training.h` and `csrc/training_attention.h`, without the number of threads, which is the last.
TRAINING_FUNCTIONS = {
    "parakit_rms_norm": (c_void_p, c_void_p, c_float, c_int64, c_int32, c_void_p, c_void_p),
    "parakit_rms_norm_gradients": (*[c_void_p] * 4, c_int64, c_int32, c_void_p, c_void_p),
    "parakit_swiglu": (c_void_p, c_void_p, c_int64, c_void_p),
    "parakit_swiglu_gradients": (c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p),
    "parakit_rotate": (POINTER(c_int64), c_void_p, c_void_p, c_void_p, c_void_p, c_int32),
    "parakit_norm_and_rotate": (POINTER(c_int64), c_void_p, c_void_p, c_float, *[c_void_p] * 4),
    "parakit_norm_and_rotate_gradients": (POINTER(c_int64), *[c_void_p] * 8),
    "parakit_cross_entropy": (c_void_p, c_void_p, c_int64, c_int32, c_void_p),
    "parakit_attention": (POINTER(c_int64), c_float, *[c_void_p] * 6),
    "parakit_attention_gradients": (POINTER(c_int64), c_float, *[c_void_p] * 10),
}


def load_kernels() -> ctypes.CDLL | None:
    """The library of inference, compiled first where it is not in the cache; None without a compiler, or when switched
    off.
    """
    return None if _is_switched_off() else _load("inference")


def compile_ahead() -> None:
    """Compile the library of inference meanwhile, where it is not in the cache and another core can do it: a training run
    needs it for its samples. `load_kernels` waits for the rest.
    """
    if _is_switched_off() or AHEAD in _compiling or n_cores() < 2:
        return
    pool = ThreadPoolExecutor(1, "parakit-compile")
    _compiling[AHEAD] = pool.submit(build_library, AHEAD)
    pool.shutdown(wait=False)


def load_training_kernels() -> ctypes.CDLL | None:
    """The library of a training step; None as of `load_kernels`."""
    return None if _is_switched_off() else _load("training")


def _is_switched_off() -> bool:
    return os.environ.get(SWITCH, "").lower() in ("off", "0", "no")


def read_bandwidth(n_bytes: int = 2**28, n_threads: int = 1, n_runs: int = 25) -> float | None:
    """Bytes per second that `n_threads` read from memory: the best of some passes over `n_bytes`; None without kernels.
    A decoding step that reads W bytes of weights and cache cannot take less than W over this.
    """
    library = load_kernels()
    if library is None:
        return None
    block = ctypes.create_string_buffer(n_bytes)
    ctypes.memset(block, 1, n_bytes)  # pages that nothing has written to would all be the same one
    times = []
    for _ in range(n_runs):
        start = time.perf_counter()
        library.parakit_read(ctypes.addressof(block), n_bytes // 4, n_threads)
        times.append(time.perf_counter() - start)
    return n_bytes / min(times)


@functools.cache
def _load(part: str) -> ctypes.CDLL | None:
    try:
        ahead = _compiling.pop(part, None)
        path = build_library(part) if ahead is None else ahead.result()
        try:
            library = ctypes.CDLL(str(path))
        except OSError:  # damaged: compile once more
            path.unlink(missing_ok=True)
            library = ctypes.CDLL(str(build_library(part)))
        DECLARATIONS[part](library)
        return library
    except (BuildError, OSError, AttributeError) as error:
        log(f"the CPU kernels of {part} are not used, PyTorch computes instead: {error}")
        return None


def _declare_inference(library: ctypes.CDLL) -> None:
    """Types of arguments and results, as in `csrc/inference.cpp`."""
    library.parakit_sizes.argtypes = (POINTER(c_int32),)
    library.parakit_matmul.argtypes = (POINTER(Weight), c_void_p, c_int64, c_void_p, c_int32)
    library.parakit_forward.argtypes = (
        POINTER(ModelLayout),
        POINTER(CacheLayout),
        POINTER(BatchLayout),
        c_int32,
    )
    library.parakit_read.argtypes = (c_void_p, c_int64, c_int32)
    library.parakit_matmul.restype, library.parakit_forward.restype = None, c_int32
    library.parakit_read.restype = c_float
    sizes = (c_int32 * len(STRUCTURES))()
    library.parakit_sizes(sizes)
    if list(sizes) != [ctypes.sizeof(structure) for structure in STRUCTURES]:
        raise OSError("a compiled library with other structures")


def _declare_training(library: ctypes.CDLL) -> None:
    """The same of `csrc/training.cpp`."""
    for name, argtypes in TRAINING_FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = (*argtypes, c_int32), None
    with contextlib.suppress(AttributeError):  # PyTorch with another runtime: threads of the library's own
        loaded = ctypes.CDLL(None)
        library.parakit_use_openmp(*(ctypes.cast(getattr(loaded, name), c_void_p) for name in OPENMP))


DECLARATIONS = {"inference": _declare_inference, "training": _declare_training}
