"""Quantizing a published model of 135M parameters: size, KL to the original, perplexity and decoding speed, by method and bits.

Calibrated on WikiText-2's training text, measured on its test text; the same model as llama.cpp quantizes it (Q8_0, Q4_1) is
measured on the same tokens. The source is itself the dequantised Q4_1 of the published weights, so llama.cpp's Q4_1 finds the
grid that its weights are on.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, kept_or_measured, work_folder
from benchmarks.quality.real_models.data import find_source
from benchmarks.registry import NO_TARGET, Figures, benchmark

ROWS: Mapping[str, Mapping[str, Any]] = {
    "int8": {"bits": 8, "method": "gptq", "quant_group_size": "largest", "tune_steps": 96},
    "int8_gptq": {"bits": 8, "method": "gptq", "quant_group_size": "largest"},
    "int8_rows": {"bits": 8, "method": "gptq"},
    "int8_rounding": {"bits": 8},
    "int4": {"size_budget": "82.6MB", "method": "gptq", "tune_steps": 96},
    "int4_tuned": {"bits": 4, "method": "gptq", "tune_steps": 96},
    "int4_gptq": {"bits": 4, "method": "gptq"},
    "int4_awq": {"bits": 4, "method": "awq"},
    "int4_rounding": {"bits": 4},
    "int4_symmetric": {"bits": 4, "method": "gptq", "symmetric": True},
}
GGUF = {"gguf_q8_0": "Q8_0", "gguf_q4_1": "Q4_1"}


@benchmark("quantization", {
    "int8.size.ratio": (">= 3.88", "int8: times smaller than float32"),
    "int8.divergence.kl": ("< 0.001", "int8: KL to the original in nats a token"),
    "int4.size.ratio": (">= 6.5", "int4: times smaller than float32"),
    "int4.divergence.perplexity_ratio": ("<= 1.03", "int4: perplexity over the original's"),
    "*.divergence.kl": (NO_TARGET, "{0}: KL to the original in nats a token"),
    "*.divergence.perplexity_ratio": (NO_TARGET, "{0}: perplexity over the original's"),
    "*.size.ratio": (NO_TARGET, "{0}: times smaller than float32"),
    "*.speed.ratio": (NO_TARGET, "{0}: decoding speed over the original's"),
})  # fmt: skip
def quantization(
    *,
    data: Path = DATA,
    rows: tuple[str, ...] = (*ROWS, *GGUF),
    n_measured_tokens: int = 32_768,
    n_calibration_tokens: int = 24_576,
    work: Path | None = None,
) -> Figures:
    """`work` keeps what was measured, row by row, so that an interrupted run resumes."""
    with work_folder(work) as folder:
        _write_texts(folder, data)
        settings = {"n_measured_tokens": n_measured_tokens, "text": (str(folder / "test.txt"),)}
        calibration = {
            "n_calibration_tokens": n_calibration_tokens,
            "calibration": (str(folder / "train.txt"),),
        }
        found: Figures = {}
        for name in rows:
            kept = folder / "rows" / f"{name}.json" if work else None
            if name in GGUF:
                found[name] = kept_or_measured(kept, lambda name=name: _gguf(folder, GGUF[name], settings))  # type: ignore[misc]
            else:
                row = dict(ROWS[name]) | settings
                row |= calibration if "method" in row else {}
                found[name] = kept_or_measured(kept, lambda row=row: _quantized(folder, row))  # type: ignore[misc]
        return found


def _write_texts(folder: Path, data: Path) -> None:
    for name, file in (("train", "wikitext2_train_5k"), ("test", "test")):
        text = gzip.decompress((data / "wikitext-2" / f"{file}.txt.gz").read_bytes())
        (folder / f"{name}.txt").write_bytes(text)


def _source(folder: Path) -> Path:
    """The published model as a plain folder in float32."""
    from parakit.checkpoints.import_export import import_model

    place = folder / "model"
    return place if place.exists() else import_model(str(find_source("smollm2")), place)


def _quantized(folder: Path, row: Mapping[str, Any]) -> Figures:
    from parakit.checkpoints import load_model
    from parakit.compression.quantization.config import QuantizeConfig
    from parakit.compression.quantization.quantize import quantize_model

    model, tokenizer = load_model(_source(folder), dtype="float32")
    figures = quantize_model(model, tokenizer, folder, QuantizeConfig.parse(row))
    speed = figures["speed"]
    ratio = speed["tokens_per_second"] / speed["original_tokens_per_second"]
    return figures | {"speed": speed | {"ratio": ratio}, "sensitivity": []}


def _gguf(folder: Path, kind: str, settings: Mapping[str, Any]) -> Figures:
    """llama.cpp's own file of the same weights, read back by Parakit: what its rounding changes."""
    from parakit.checkpoints import load_model
    from parakit.checkpoints.import_export import import_model
    from parakit.compression.quantization.config import QuantizeConfig
    from parakit.compression.quantization.measurement import OriginalOutputs
    from parakit.compression.quantization.text import find_windows

    file = find_source("smollm2").parents[1] / "smollm2-gguf" / f"{kind}.gguf"
    model, tokenizer = load_model(_source(folder), dtype="float32")
    _, windows = find_windows(model, tokenizer, folder, QuantizeConfig.parse({"bits": 4, **settings}))
    outputs = OriginalOutputs(model, windows.token_ids)
    n_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
    del model
    place = folder / kind
    other, _ = load_model(place if place.exists() else import_model(str(file), place), dtype="float32")
    divergence = outputs.compare(other).figures()
    size = {"original_bytes": n_bytes, "bytes": file.stat().st_size, "ratio": n_bytes / file.stat().st_size}
    assert math.isfinite(divergence["kl"])
    return {"size": size, "divergence": divergence}
