"""What `parakit show` reports of an adapter's folder and its base. Never imports torch."""

from __future__ import annotations

from pathlib import Path

from parakit.checkpoints.adapters.base_model import BASE, CONFIG, WEIGHTS, base_folder
from parakit.checkpoints.folder_safety import read_small_json
from parakit.checkpoints.safetensors_io import read_header
from parakit.common.errors import UserError
from parakit.common.files import JsonObject

_KINDS = {
    "LORA": "low-rank factors added to the base's matrices",
    "PROMPT_TUNING": "trained vectors before the text",
    "PREFIX_TUNING": "trained keys and values before the text, in every layer",
}
_SETTINGS = {
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "use_rslora": "rank-stabilized",
    "use_dora": "trained magnitudes (DoRA)",
    "num_virtual_tokens": "virtual tokens",
    "trainable_token_indices": "tokens with trained embeddings",
}


def describe_adapter(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """One line, figures in groups, no samples."""
    peft = read_small_json(path / CONFIG)
    entries = read_header(path / WEIGHTS)
    n = 0
    for entry in entries.values():
        size = 1
        for length in entry.shape:
            size *= length
        n += size
    about: JsonObject = {"kind": _KINDS.get(str(peft.get("peft_type")), str(peft.get("peft_type")))}
    about |= {name: str(peft[key]) for key, name in _SETTINGS.items() if peft.get(key)}
    for key, name in (("target_modules", "modules"), ("modules_to_save", "fully trained")):
        if isinstance(modules := peft.get(key), list):
            about[name] = ", ".join(map(str, modules[:12])) + (" ..." if len(modules) > 12 else "")
    about |= {"parameters": n, "base": str(peft.get(BASE))}
    try:
        about["base folder"] = str(base_folder(path).resolve())
    except UserError:
        about["base folder"] = "missing"
    result = lineage.get("result") or {}
    measured = {
        label: result[key]
        for key, label in (
            ("loss", "loss"),
            ("bits_per_byte", "bits per byte"),
            ("seconds", "seconds of training"),
        )
        if isinstance(result.get(key), int | float)
    }
    return f"an adapter of {n:,} parameters", {"measured": measured, "adapter": about}, {}
