"""The fields of sampling: presets, sliders and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from parakit.inference.config import SamplingSettings
from parakit.serving.studio.chatting.presets import DEFAULT, PRESETS, preset_of, sampling_from

_SLIDERS = (
    ("temperature", "Temperature", 0.0, 2.0, 0.05, "0 always takes the likeliest token"),
    ("top_p", "Top-p", 0.05, 1.0, 0.05, "the likeliest tokens up to this probability; 1: all"),
    ("min_p", "Min-p", 0.0, 0.5, 0.01, "tokens below this share of the likeliest are left out"),
)


class SamplingPanel:
    """`values()` are checked settings; a change calls `on_change`."""

    def __init__(self, on_change: Callable[[], Any], max_new_tokens: int = 200) -> None:
        self._fields: dict[str, Any] = {}
        self._on_change = on_change
        start = PRESETS[DEFAULT]
        with ui.element("div").classes("studio-stack"):
            self._preset = (
                ui.toggle(list(PRESETS), value=DEFAULT, on_change=self._use_preset)
                .props('spread no-caps unelevated dense toggle-color=primary aria-label="Presets"')
                .classes("full-width")
            )
            for name, title, low, high, step, note in _SLIDERS:
                self._slider(name, title, low, high, step, note, start[name])
            with ui.element("div").classes("studio-row no-wrap"):
                self._number("top_k", "Top-k, 0: all", start["top_k"], 0)
                self._number("max_new_tokens", "Most tokens", max_new_tokens, 1)
                self._number("seed", "Seed", None, 0)

    def values(self) -> SamplingSettings:
        """Settings of `SamplingConfig`. `UserError` for one outside its limits."""
        return sampling_from({name: field.value for name, field in self._fields.items()})

    def _slider(
        self, name: str, title: str, low: float, high: float, step: float, note: str, value: float
    ) -> None:
        with ui.element("div"):
            with ui.element("div").classes("studio-field-label"):
                ui.label(title)
                shown = ui.label(f"{value:g}").classes("studio-number")
            slider = ui.slider(min=low, max=high, step=step, value=value)
            slider.props(f'aria-label="{title}: {note}"')
            with slider:
                ui.tooltip(note)
            shown.bind_text_from(slider, "value", lambda value: f"{value:g}")
        slider.on_value_change(self._changed)
        self._fields[name] = slider

    def _number(self, name: str, title: str, value: int | None, low: int) -> None:
        field = ui.number(title, value=value, min=low, format="%d").props("outlined dense")
        self._fields[name] = field.classes("col")

    def _use_preset(self) -> None:
        for name, value in PRESETS.get(self._preset.value or "", {}).items():
            self._fields[name].value = value

    def _changed(self) -> None:
        self._preset.value = preset_of({name: field.value for name, field in self._fields.items()})
        self._on_change()
