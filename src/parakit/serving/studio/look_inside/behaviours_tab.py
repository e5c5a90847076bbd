"""The five behaviours of attention on the chosen model: how often it is right, with which heads, and without them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nicegui import ui

from parakit.common.formatting import percent
from parakit.common.progress import OnProgress
from parakit.evaluation.intervals import wilson_interval
from parakit.inference.loaded_model import Model
from parakit.inspection.behaviours.measuring import (
    BehaviourResult,
    encode_behaviour_pair,
    measure_behaviour,
    readable_pairs,
)
from parakit.inspection.behaviours.sentences import BehaviourPair, pairs_of
from parakit.inspection.inputs import ModelInput
from parakit.inspection.names import BEHAVIOURS, PairSet
from parakit.reports.inspection.page import visible
from parakit.serving.studio.look_inside.models import MODELS, is_of_built_in_world
from parakit.serving.studio.working import working

N_PAIRS = {8: "8 pairs", 16: "16 pairs", 40: "40 pairs"}
_HEAD = re.compile(r"(.*?)blocks\.(\d+)\.(.*)\.heads")


@dataclass(frozen=True)
class Measured:
    """What the page shows of a behaviour."""

    result: BehaviourResult
    given: ModelInput | None
    """The example as the model reads it."""
    n_skipped: int

    def heads(self) -> list[tuple[str, int, int]]:
        """(name, layer, head) of each head that carries the behaviour."""
        found = []
        for unit in self.result.heads:
            match = _HEAD.fullmatch(unit.site)
            layer = int(match[2]) if match else 0
            stack = (match[1] + ("cross " if "cross" in match[3] else "")) if match else ""
            found.append((f"{stack.replace('.', ' ')}{layer}.{unit.index}", layer, unit.index))
        return found


def measure(
    model: Model, name: str, pair_set: PairSet, n_pairs: int, on_progress: OnProgress | None = None
) -> Measured:
    """Measure a behaviour. Errors as `measure_behaviour`."""
    pairs = pairs_of(pair_set, n_pairs)[name]
    readable = readable_pairs(model, pairs)
    result = measure_behaviour(model, readable, on_progress=on_progress)
    return Measured(result, _example_input(model, readable, result), len(pairs) - len(readable))


def _example_input(model: Model, pairs: list[BehaviourPair], result: BehaviourResult) -> ModelInput | None:
    for pair in pairs:
        if pair.good.strip() == result.example.good:
            given = encode_behaviour_pair(model, pair).good.given
            if (given.source_tokens or given.tokens) == result.example.tokens:
                return given
    return None


def interval_text(values: np.ndarray) -> str:
    """The share above 0 with its 95 % interval."""
    right = int((values > 0).sum())
    low, high = wilson_interval(right, len(values))
    return f"{percent(right / len(values))} ({100 * low:.0f} to {100 * high:.0f})"


class BehavioursTab:
    """A card for each behaviour, measured when a person wants it."""

    def __init__(
        self, get_model: Callable[[], Path | None], show_head: Callable[[Any, int, int], Awaitable[None]]
    ) -> None:
        self.get_model, self.show_head = get_model, show_head
        ui.label(
            "Pairs of sentences that differ in one word, of which one is right. Half of the pairs choose the heads, the"
            " other half measures: how often the right word is likelier, and how often without these heads."
        ).classes("studio-small studio-muted studio-prose")
        with ui.row().classes("items-end"):
            self.pairs = ui.select(
                {"english": "plain English", "primer": "the built-in world"},
                value="english",
                label="Sentences",
            ).props("dense")
            self.n_pairs = ui.select(N_PAIRS, value=16, label="At most").props("dense")
        self.cards: dict[str, tuple[Any, Any, Any, Any]] = {}
        with ui.element("div").classes("studio-grid full-width"):
            for name, title in BEHAVIOURS.items():
                with ui.element("section").classes("studio-card studio-stack"):
                    with ui.row().classes("items-center full-width"):
                        ui.label(title[0].upper() + title[1:]).classes("text-weight-medium studio-grow")
                        ui.button("Measure", on_click=lambda n=name: self._measure(n)).props(
                            "outline no-caps size=sm"
                        )
                    _prepared_example(name)
                    status = ui.label().classes("studio-small").props('role="status"')
                    bar = ui.linear_progress(0, show_value=False).props("instant-feedback")
                    bar.set_visibility(False)
                    self.cards[name] = (status, bar, ui.column().classes("full-width studio-near"), title)

    def set_model(self, path: Path) -> None:
        """Another model: nothing is measured of it yet."""
        self.pairs.set_value("primer" if is_of_built_in_world(path) else "english")
        for status, bar, box, _ in self.cards.values():
            status.set_text("")
            bar.set_visibility(False)
            box.clear()

    async def _measure(self, name: str) -> None:
        path = self.get_model()
        if path is None:
            return
        status, bar, box, _ = self.cards[name]
        n_pairs, done = int(self.n_pairs.value), [0]

        def advance(n: int) -> None:
            done[0] += n

        bar.set_visibility(True)
        timer = ui.timer(0.25, lambda: bar.set_value(min(1.0, done[0] / n_pairs)))
        box.clear()
        try:
            async with working(status, "measuring") as failed:
                found = await MODELS.compute(path, measure, name, self.pairs.value, n_pairs, advance)
        finally:
            timer.cancel()
            bar.set_visibility(False)
        if not failed:
            with box:
                self._draw(found)

    def _draw(self, found: Measured) -> None:
        result, n = found.result, len(found.result.values)
        random = result.values_random.reshape(-1)
        with ui.element("div").classes("studio-bars items-center full-width studio-small"):
            for title, values, color in (
                ("with all heads", result.values, "primary"),
                (f"without its {len(result.heads)} heads", result.values_without, "negative"),
                (f"without {len(result.heads)} random heads", random, "grey-6"),
            ):
                share = float((values > 0).mean())
                ui.label(title)
                ui.linear_progress(share, show_value=False, size="10px", color=color).props(
                    f'rounded aria-label="{title}"'
                )
                ui.label(interval_text(values) if values is not random else percent(share))
        margin = f"{float(result.values.mean()):+.2f} to {float(result.values_without.mean()):+.2f} nats"
        skipped = f"; {found.n_skipped} are longer than the model reads" if found.n_skipped else ""
        ui.label(f"Right in {n} pairs{skipped}. The margin falls from {margin} without the heads.").classes(
            "studio-small studio-muted"
        )
        ui.label("Heads that carry it (layer.head); choose one to see what it looks at:").classes(
            "studio-small"
        )
        with ui.row().classes("studio-near"):
            for name, layer, head in found.heads():
                button = ui.button(name, on_click=lambda a=layer, b=head: self.show_head(found.given, a, b))
                button.props(f'outline dense no-caps size=sm aria-label="Show head {name}"')
        self._draw_example(found)

    def _draw_example(self, found: Measured) -> None:
        example = found.result.example
        looked = dict(example.carriers)
        with ui.element("div").classes("studio-small studio-loose studio-break full-width"):
            for number, token in enumerate(example.tokens):
                share = looked.get(f"{number} {token.strip()}", 0.0)
                label = ui.label(visible(token)).classes("studio-inline studio-text")
                if share > 0.03:
                    label.style(f"background: rgba(224,117,45,{min(0.85, share):.2f})")
        ui.label(
            f"Right is “{example.good}”, not “{example.bad}”: {example.value:+.2f} nats, and"
            f" {example.value_without:+.2f} without the heads. Shaded is what the heads look at from the deciding token."
        ).classes("studio-small studio-muted")


def _prepared_example(name: str) -> None:
    pair = pairs_of("english", 40)[name][0]
    with ui.element("div").classes("studio-small studio-muted"):
        ui.label(pair.before).classes("studio-inline")
        ui.label(pair.good).classes("studio-inline text-weight-medium text-positive studio-pre")
        ui.label(", not").classes("studio-inline studio-pre")
        ui.label(pair.bad).classes("studio-inline text-weight-medium text-negative studio-pre")
