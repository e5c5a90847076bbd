"""Rotary positions of a GGUF file as `rope_parameters` of a config.json.

Linear and YaRN scaling are metadata. Llama 3's scaling is a tensor, `rope_freqs.weight`: by what each frequency is
divided. Its settings are found again as the ones that give exactly these divisors.
"""

from __future__ import annotations

import math

import numpy as np

from parakit.checkpoints.gguf.metadata import ModelMetadata
from parakit.common.errors import UserError
from parakit.common.files import JsonObject

ROPE_FACTORS = "rope_freqs.weight"
_YARN_KEYS = {
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_LLAMA3_LENGTHS = (8192, 4096, 2048, 16384, 32768)  # original lengths; published models have the first
LOW, HIGH = 1.0, 4.0


def rope_settings(metadata: ModelMetadata, head_dim: int, default_theta: float = 10_000.0) -> JsonObject:
    """`rope_parameters`, for rotary positions on all `head_dim` features."""
    n_rotated = metadata.integer("rope.dimension_count", head_dim)
    if n_rotated != head_dim:
        raise UserError(
            f"{metadata.file.path}: rotates {n_rotated} of a head's {head_dim} features",
            f"Parakit rotates all features of {metadata.architecture}: choose another model",
        )
    theta = metadata.number("rope.freq_base", default_theta)
    kind = metadata.get("rope.scaling.type", "none")
    scale = metadata.get("rope.scale_linear")
    settings: JsonObject = {"rope_theta": theta, "rope_type": "default"}
    if ROPE_FACTORS in metadata.file.tensors:
        settings |= _llama3(metadata, theta, head_dim)
    elif kind == "linear" or (kind == "none" and scale not in (None, 1.0)):
        factor = metadata.number("rope.scaling.factor" if kind == "linear" else "rope.scale_linear")
        settings |= {"rope_type": "linear", "factor": factor}
    elif kind == "yarn":
        settings |= {
            "rope_type": "yarn",
            "factor": metadata.number("rope.scaling.factor"),
            "original_max_position_embeddings": metadata.integer("rope.scaling.original_context_length"),
        }
        settings |= {name: metadata.number(key) for key, name in _YARN_KEYS.items() if metadata.get(key)}
    elif kind != "none":
        raise UserError(
            f"{metadata.file.path}: `{metadata.architecture}.rope.scaling.type` is {kind!r}",
            "supported: none, linear, yarn, and Llama 3's",
        )
    return settings


def llama3_factors(theta: float, head_dim: int, factor: float, original: int) -> np.ndarray:
    """What Llama 3's scaling divides each of the head_dim / 2 frequencies by: 1 for short waves, `factor` for waves
    longer than the original length, and a blend between.
    """
    wavelengths = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    blend = np.clip((original / wavelengths - LOW) / (HIGH - LOW), 0, 1)
    factors: np.ndarray = 1 / ((1 - blend) / factor + blend)
    return factors


def _llama3(metadata: ModelMetadata, theta: float, head_dim: int) -> JsonObject:
    factors = metadata.file.weights(ROPE_FACTORS)
    factor = float(str(factors.max()))
    for original in _LLAMA3_LENGTHS:
        expected = llama3_factors(theta, head_dim, factor, original)
        if factors.shape == expected.shape and np.allclose(factors, expected, rtol=1e-4, atol=0):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": original,
            }
    raise UserError(
        f"{metadata.file.path}: `{ROPE_FACTORS}` holds {factors.size} divisors of frequencies up to {factor:g}, "
        f"which are not those of Llama 3's scaling",
        "import the model's original folder",
    )
