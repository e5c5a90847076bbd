"""`parakit inspect behaviours`: the five behaviours of attention on a model, and the heads that each rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parakit.cli.inspecting.options import InspectConfig, new_page, opened_model
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, refuse_inert
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.progress import log, progress
from parakit.inspection.names import BEHAVIOURS, PairSet

if TYPE_CHECKING:
    import numpy as np

    from parakit.inference.loaded_model import Model
    from parakit.inspection.behaviours.measuring import AttentionToWords, BehaviourResult
    from parakit.inspection.behaviours.senses import SenseResult

MIN_PAIRS = 4  # one half of them chooses heads


class InspectBehavioursCommandConfig(InspectConfig):
    """The five behaviours of attention: how often the model is right, on which heads that rests, what the deciding token looks
    at, and what the answers are without these heads. And the senses of "bank" in its vectors.
    """

    pairs: PairSet = Field(
        default="english",
        description="english: sentences in plain English; primer: those of the built-in world, for models built from it.",
    )
    n_pairs: int = Field(
        default=40, ge=4, description="Pairs of each behaviour, at most. Half of them choose the heads."
    )
    n_heads: int = Field(default=5, ge=1, description="How many heads count as carrying a behaviour.")
    seed: int = Field(
        default=0, description="Seed of the primer's pairs, and of the random heads to compare with."
    )
    output: str | None = Field(default=None, description="Write all figures to this .json file.")
    overwrite: bool = Field(default=False, description="Replace an existing file.")


def main(argv: list[str]) -> int:
    """Run `parakit inspect behaviours` with these arguments."""
    command = parse_command(InspectBehavioursCommandConfig, argv, "parakit inspect behaviours")
    refuse_inert(command, (OVERWRITES,))
    path = new_page(command.output, command.overwrite, ".json")
    with opened_model(command) as model:
        found = _measure(model, command)
    if path is not None:
        write_json_atomic(path, found)
        log(f"figures: {path}")
    if command.as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _show(found)
    return 0


def _measure(model: Model, command: InspectBehavioursCommandConfig) -> JsonObject:
    from parakit.inspection.behaviours.measuring import measure_behaviour, readable_pairs
    from parakit.inspection.behaviours.senses import BANK, measure_senses
    from parakit.inspection.behaviours.sentences import pairs_of
    from parakit.inspection.inputs import HAS_VOCABULARY

    found: JsonObject = {
        "model": Path(command.model).name,
        "pairs": command.pairs,
        "behaviours": {},
        "skipped": {},
    }
    every = pairs_of(command.pairs, command.n_pairs, command.seed)
    if isinstance(model.network, HAS_VOCABULARY):
        with progress("behaviours", sum(map(len, every.values())), "pairs") as bar:
            for name, pairs in every.items():
                readable = readable_pairs(model, pairs)
                if skipped := len(pairs) - len(readable):
                    found["skipped"][name] = skipped
                    bar.advance(skipped)
                if len(readable) < MIN_PAIRS:
                    bar.advance(len(readable))
                    continue
                result = measure_behaviour(
                    model, readable, n_heads=command.n_heads, seed=command.seed, on_progress=bar.advance
                )
                found["behaviours"][name] = _behaviour(result)
    else:
        found["note"] = (
            f"{model.kind.description}: it gives words no probabilities, so only its vectors are measured"
        )
    try:
        with progress("senses of bank", None, "sentences") as bar:
            found["senses"] = _senses(measure_senses(model, on_progress=bar.advance), len(BANK))
    except UserError as error:  # a short context window
        found["senses"] = None
        found["skipped"]["senses"] = error.message
    return found


def _share(right: np.ndarray) -> JsonObject:
    """A share with its 95 % interval."""
    from parakit.evaluation.intervals import wilson_interval

    low, high = wilson_interval(int(right.sum()), len(right))
    return {"value": float(right.mean()), "low": low, "high": high, "n": len(right)}


def _behaviour(result: BehaviourResult) -> JsonObject:
    example = result.example
    return {
        "title": BEHAVIOURS[result.behaviour],
        "accuracy": _share(result.values > 0),
        "accuracy_without": _share(result.values_without > 0),
        "accuracy_without_random": float((result.values_random > 0).mean()),
        "value": float(result.values.mean()),
        "value_without": float(result.values_without.mean()),
        "value_without_random": float(result.values_random.mean()),
        "heads": [[unit.site.removesuffix(".heads"), unit.index] for unit in result.heads],
        "attention": {"carriers": _words(result.carriers), "others": _words(result.others)},
        "example": {
            "tokens": example.tokens,
            "deciding": example.deciding,
            "good": example.good,
            "bad": example.bad,
            "value": example.value,
            "value_without": example.value_without,
            "carriers": example.carriers,
            "others": example.others,
        },
    }


def _words(attention: AttentionToWords) -> JsonObject:
    return {"cue": attention.cue, "distractor": attention.distractor}


def _senses(result: SenseResult, n_senses: int) -> JsonObject:
    return {
        "word": result.word,
        "chance": 1 / n_senses,
        "best_layer": result.layers[result.best],
        "accuracy": _share(result.right[result.best]),
        "by_layer": [
            {
                "layer": name,
                "accuracy": float(right.mean()),
                "within": float(within),
                "between": float(between),
            }
            for name, right, within, between in zip(
                result.layers, result.right, result.within, result.between, strict=True
            )
        ],
        "without_attention_of": [
            {"layer": name, "accuracy": float(right.mean())}
            for name, right in zip(result.layers, result.without, strict=False)
        ],
        "neighbours": [
            {"sentence": one.sentence, "sense": one.sense, "nearest": one.neighbours}
            for one in result.neighbours
        ],
    }


def _show(found: JsonObject) -> None:
    console = Console()
    if "note" in found:
        console.print(Text(found["note"]))
    if found["behaviours"]:
        console.print(_accuracy_table(found["behaviours"]))
        console.print(_attention_table(found["behaviours"]))
        for one in found["behaviours"].values():
            _show_example(console, one)
    if found["senses"]:
        _show_senses(console, found["senses"])
    for name, reason in found["skipped"].items():
        pairs = f"{reason} pairs that the model cannot read, as they are longer than its context window"
        console.print(Text(f"left out, {name}: {reason if isinstance(reason, str) else pairs}"))


def _percent(share: Any) -> str:
    if share is None:
        return "-"
    if isinstance(share, dict):
        return f"{100 * share['value']:.0f} % ({100 * share['low']:.0f} to {100 * share['high']:.0f})"
    return f"{100 * share:.0f} %"


def _accuracy_table(behaviours: JsonObject) -> Table:
    table = Table(
        "behaviour", "right", "without its heads", "without random heads", "margin, nats", "its heads"
    )
    for one in behaviours.values():
        heads = ", ".join(f"{name}.{head}".replace(".attention", "") for name, head in one["heads"])
        margins = f"{one['value']:+.2f} → {one['value_without']:+.2f}"
        shares = (_percent(one[name]) for name in ("accuracy", "accuracy_without", "accuracy_without_random"))
        table.add_row(one["title"], *shares, margins, heads.replace("blocks.", ""))
    table.caption = (
        "Heads are layer.head, chosen on other pairs; 95 % intervals. Margin: log p(right) - log p(wrong)."
    )
    return table


def _attention_table(behaviours: JsonObject) -> Table:
    headings = (
        "deciding token looks at",
        "deciding word: its heads",
        "other heads",
        "distractor: its heads",
        "other heads",
    )
    table = Table(*headings)
    for one in behaviours.values():
        shares = [
            one["attention"][kind][word] for word in ("cue", "distractor") for kind in ("carriers", "others")
        ]
        table.add_row(one["title"], *map(_percent, shares))
    return table


def _show_example(console: Console, one: JsonObject) -> None:
    from parakit.cli.inspecting.heat_map import label

    example = one["example"]
    console.print(Text(one["title"], style="bold"))
    text = "".join(example["tokens"]).strip()
    console.print(Text(f"  {text}"), soft_wrap=True)
    console.print(
        Text(
            f"  {example['good']} against {example['bad']}: {example['value']:+.2f} nats,"
            f" without the heads {example['value_without']:+.2f}"
        )
    )
    for kind, name in (("carriers", "its heads look at"), ("others", "the others at")):
        words = ", ".join(f"{label(token, 18)} {100 * share:.0f} %" for token, share in example[kind])
        console.print(Text(f"  {name}: {words or '-'}"))


def _show_senses(console: Console, senses: JsonObject) -> None:
    console.print(Text(f"senses of {senses['word']!r} in the vectors", style="bold"))
    table = Table(
        "layer",
        "nearest use has the same sense",
        "cosine within",
        "between",
        "best layer without its attention",
    )
    without = {one["layer"]: one["accuracy"] for one in senses["without_attention_of"]}
    for row in senses["by_layer"]:
        mark = " *" if row["layer"] == senses["best_layer"] else ""
        figures = _percent(row["accuracy"]), f"{row['within']:.2f}", f"{row['between']:.2f}"
        table.add_row(row["layer"] + mark, *figures, _percent(without.get(row["layer"])))
    accuracy = senses["accuracy"]
    table.caption = (
        f"* best: {_percent(accuracy)} of {accuracy['n']} uses; by chance {_percent(senses['chance'])}."
    )
    console.print(table)
    shown: set[str] = set()
    for one in senses["neighbours"]:
        if one["sense"] not in shown:
            shown.add(one["sense"])
            console.print(Text(f"  {one['sense']}: {one['sentence']}"), soft_wrap=True)
            for sentence, sense, cosine in one["nearest"]:
                console.print(Text(f"    {cosine:+.2f} {sense}: {sentence}"), soft_wrap=True)
