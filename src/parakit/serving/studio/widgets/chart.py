"""The element of the studio's charts: ECharts as NiceGUI has it, made at once (see chart.js)."""

from __future__ import annotations

from typing import Any

from nicegui import ui


class Chart(ui.echart, component="chart.js"):  # type: ignore[call-arg]
    """A chart with ECharts' options. `show` replaces them."""

    def show(self, options: dict[str, Any]) -> None:
        """Draw other options."""
        self.options.clear()
        self.options.update(options)
        self.update()
