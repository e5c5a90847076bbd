"""The README.md of an adapter's folder: what it changes, on which base, and how it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from parakit.common.hardware import parakit_version
from parakit.reports.formatting import is_number, number
from parakit.reports.model_card import escaped

_METHODS = {
    "lora": "Low-rank factors beside the matrices of the base",
    "prompt": "Trained vectors before the text",
    "prefix": "Trained keys and values before the text, in every layer",
}


def adapter_card(name: str, base: str, method: str, figures: Mapping[str, Any]) -> str:
    """Markdown with the front matter that model hubs read."""
    verb = "chat" if figures.get("task") == "chat" else "predict"
    loss = figures.get("loss")
    lines = [
        "---\nlibrary_name: peft\ntags: " + json.dumps(["parakit", method]) + "\n---",
        f"# {escaped(name)} (adapter)",
        f"{_METHODS.get(method, method)}: {number(figures.get('trained_parameters'))} trained parameters for the model"
        f" `{escaped(base)}`, which is needed beside it and stays as it is. Made by Parakit"
        f" {escaped(parakit_version())}.",
    ]
    if is_number(loss):
        unit = escaped(figures.get("loss_unit") or "nats per token")
        lines.append(f"## Measured\n\n- Loss on what was held out: **{number(loss, 4)}** {unit}.")
    python = [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE"), "FOLDER")',
    ]
    lines.append(
        "\n".join(["## Use", "", "```", f"parakit {verb} FOLDER", "```", "", "```python", *python, "```"])
    )
    return "\n\n".join(lines) + "\n"
