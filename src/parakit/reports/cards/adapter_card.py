"""The README.md of an adapter's folder: what it changes, on which base, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from parakit.common.formatting import number
from parakit.common.hardware import parakit_version
from parakit.reports.cards.model_card import against_plan, before_after_section, escape_markdown
from parakit.reports.summary_schema import TrainingSummary

_METHODS = {
    "lora": "Low-rank factors added to the matrices of the base",
    "prompt": "Trained vectors before the text",
    "prefix": "Trained keys and values before the text, in every layer",
}


def adapter_card(name: str, base: str, method: str, training: Mapping[str, Any]) -> str:
    """Markdown with the front matter that model hubs read. `training`: the figures of the adapter's training."""
    figures = TrainingSummary.model_validate(training)
    verb = "chat" if figures.task == "chat" else "predict"
    lines = [
        "---\nlibrary_name: peft\ntags: " + json.dumps(["parakit", method]) + "\n---",
        f"# {escape_markdown(name)} (adapter)",
        f"{_METHODS.get(method, method)}: {number(figures.trained_parameters)} trained parameters for the model"
        f" `{escape_markdown(base)}`, which is needed as well and is not changed. Made by Parakit"
        f" {escape_markdown(parakit_version())}.",
    ]
    if figures.loss is not None:
        unit = escape_markdown(figures.loss_unit)
        lines.append(f"## Measured\n\n- Held-out loss: **{number(figures.loss, 4)}** {unit}.")
    if compared := before_after_section(figures):
        lines.append(compared)
    if taken := against_plan(figures):
        lines.append("## How it was made\n\n" + "\n".join(f"- {escape_markdown(line)}." for line in taken))
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
