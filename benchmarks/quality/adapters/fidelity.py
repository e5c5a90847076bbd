"""What must be exact of a LoRA: the base stays as it is, merged it computes the same, and so does peft with it.

Measured on a tuned adapter's folder, with random tokens. What merging changes is measured in float64, where only the
rounding of the merged weights is left, and in float32, whose sums in another order differ by as much as peft's do.
The figures of peft are left out where it is not installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Figures
from parakit.checkpoints import load_model
from parakit.checkpoints.adapters import load_adapter
from parakit.common.files import sha256_file
from parakit.compression.merging import merge_adapter
from parakit.model.adapters import attach, without_adapter

ROWS, WEIGHTS = 8, "model.safetensors"


def weights_digest(base: Path) -> str:
    """Of the file that holds the base's weights."""
    return sha256_file(base / WEIGHTS)


def fidelity(base: Path, adapter: Path, digest_before: str) -> Figures:
    """Largest differences of logits, and how many of the base's tensors changed by a bit."""
    adapted, plain = _model(adapter), _model(base)
    ids = torch.randint(
        adapted.config.vocab_size,
        (ROWS, adapted.config.max_seq_len),
        generator=torch.Generator().manual_seed(0),
    )
    wanted = _logits(adapted, ids)
    figures: Figures = {"base_file_changed": int(weights_digest(base) != digest_before)}
    with without_adapter(adapted):
        own = dict(adapted.named_parameters())
        figures["base_tensors_changed"] = sum(
            not torch.equal(own[name], parameter) for name, parameter in plain.named_parameters()
        )
    figures["largest_logit"] = float(wanted.abs().max())
    figures |= _peft_differences(base, adapter, ids, wanted)
    exact = _logits(_model(adapter).double(), ids)
    merged: Any = merge_adapter(adapted).model
    figures["merged_difference_float32"] = _largest_difference(_logits(merged, ids), wanted)
    figures["merged_difference"] = _largest_difference(_logits(merged.double(), ids), exact)
    return figures


def _peft_differences(base: Path, adapter: Path, ids: Tensor, wanted: Tensor) -> Figures:
    """Parakit's adapter loaded by peft, and what peft then writes loaded by Parakit."""
    try:
        import peft
        import transformers
    except ImportError:
        return {}
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft_model = peft.PeftModel.from_pretrained(plain, adapter).eval()
    with tempfile.TemporaryDirectory() as folder:
        peft_model.save_pretrained(folder)
        back = _model(base)
        attach(back, load_adapter(folder, back))
    with torch.no_grad():
        found = peft_model(input_ids=ids).logits
    return {
        "peft_difference": _largest_difference(found, wanted),
        "back_difference": _largest_difference(_logits(back, ids), wanted),
    }


def _model(folder: Path) -> Any:
    return load_model(folder, dtype="float32")[0].eval()


@torch.no_grad()
def _logits(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model(ids)
    return found


def _largest_difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
