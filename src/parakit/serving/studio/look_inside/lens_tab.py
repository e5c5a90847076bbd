"""What each layer would predict, and the next token with the candidates of every position."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.lenses.logit_lens import Lens, logit_lens
from parakit.inspection.lenses.tuned_lens import load_tuned_lens
from parakit.reports.inspection.page import visible
from parakit.serving.studio.charts import PAPER_HEAT, bar_chart, line_chart
from parakit.serving.studio.look_inside.models import MODELS
from parakit.serving.studio.widgets.chart import Chart
from parakit.serving.studio.working import working

EXAMPLE = "The capital of France is the city of"
MAX_TOKENS = 160  # columns of the map
CELL_WIDTH, ROW_HEIGHT = 74, 24  # pixels
SHOWN_LETTERS = 9
LOGIT_LENS = "the output matrix (logit lens)"


def lens_of(model: Model, text: str, target: str | None, tuned: Path | None = None) -> Lens:
    """The lens of a text, by the translators of the folder `tuned` or without any. `UserError` for a text that is too long to
    be drawn, and as `logit_lens` and `load_tuned_lens`.
    """
    if not text.strip():
        raise UserError("there is no text", "write one")
    translator = None if tuned is None else load_tuned_lens(tuned, model)
    found = logit_lens(model, text, target=target, translator=translator)
    if len(found.tokens) > MAX_TOKENS:
        raise UserError(
            f"the text has {len(found.tokens)} tokens, and the map has room for {MAX_TOKENS}",
            "take a shorter one, or `parakit inspect lens --output`",
        )
    return found


def lens_chart(found: Lens) -> dict[str, Any]:
    """A map of layers by positions: the likeliest token, colored by its probability. The last layer is on top."""
    n_places, n_tokens = found.kl.shape
    data = []
    for row in range(n_places):
        for at in range(n_tokens):
            share, token = float(found.top_probabilities[row, at, 0]), visible(found.top_tokens[row][at][0])
            candidates = [
                f"{visible(name)}  {100 * float(p):.1f} %"
                for name, p in zip(found.top_tokens[row][at], found.top_probabilities[row, at], strict=True)
            ]
            data.append(
                {
                    "value": [at, row, round(share, 4)],
                    "name": _short(token),
                    "candidates": "\n".join(candidates),
                    "label": {"color": "#ffffff" if share > 0.5 else "#3b1d0a"},
                }
            )
    return {
        "animation": False,
        "aria": {"enabled": True, "label": {"description": "The likeliest token by layer and position"}},
        "tooltip": {
            "renderMode": "richText",
            "confine": True,
            ":formatter": "(p) => p.data.candidates",
        },
        "grid": {"left": 84, "right": 8, "top": 30, "bottom": 8},
        "xAxis": {
            "type": "category",
            "position": "top",
            "data": [_short(visible(token)) for token in found.tokens],
            "axisLabel": {"interval": 0, "color": "#8a8f98", "fontSize": 11},
            "axisTick": {"show": False},
        },
        "yAxis": {
            "type": "category",
            "data": [place if place == "embedding" else f"layer {place}" for place in found.places],
            "axisLabel": {"interval": 0, "color": "#8a8f98", "fontSize": 11},
            "axisTick": {"show": False},
        },
        "visualMap": {
            "show": False,
            "min": 0,
            "max": 1,
            "inRange": {"color": list(PAPER_HEAT)},
        },
        "series": [
            {
                "type": "heatmap",
                "data": data,
                "label": {"show": True, "formatter": "{b}", "fontSize": 11},
                "emphasis": {"itemStyle": {"borderColor": "#2f7de1", "borderWidth": 2}},
            }
        ],
    }


def _short(token: str) -> str:
    return token if len(token) <= SHOWN_LETTERS else token[: SHOWN_LETTERS - 1] + "…"


class LensTab:
    """A text, and the map of its layers' predictions."""

    def __init__(self, get_model: Callable[[], Path | None]) -> None:
        self.get_model = get_model
        self.found: Lens | None = None
        self.tuned: dict[str, Path] = {}
        with ui.row().classes("full-width items-end studio-near"):
            self.text = ui.textarea("Text", value=EXAMPLE).props("autogrow outlined dense rows=1")
            self.text.classes("studio-grow studio-wide")
            self.translators = ui.select([LOGIT_LENS], value=LOGIT_LENS, label="Read by").props("dense")
            ui.button("Look", icon="visibility", on_click=self.look).props("no-caps")
        self.note = ui.label().classes("studio-small studio-muted").props('role="status"')
        self.box = ui.column().classes("full-width")

    def set_translators(self, folders: dict[str, Path]) -> None:
        """Offer the trained translators that were found, by name."""
        self.tuned = folders
        options = [LOGIT_LENS, *folders]
        value = self.translators.value if self.translators.value in options else LOGIT_LENS
        self.translators.set_options(options, value=value)

    async def look(self) -> None:
        """Compute and draw."""
        path = self.get_model()
        if path is None:
            return
        async with working(self.note, "reading the text layer by layer") as failed:
            self.found = await MODELS.compute(
                path, lens_of, self.text.value or "", None, self.tuned.get(self.translators.value or "")
            )
        self.box.clear()
        if not failed and self.found is not None:
            with self.box:
                self._draw(self.found)

    def _draw(self, found: Lens) -> None:
        n_places, n_tokens = found.kl.shape
        ui.label(
            "Each row is a layer, the last on top; each cell is the token that the model would predict if it stopped there,"
            " darker where it is surer. Point at a cell for its other candidates; click a column for the whole prediction."
        ).classes("studio-small studio-muted studio-prose")
        with ui.element("div").classes("full-width studio-scroll").props('tabindex=0 aria-label="The map"'):
            chart = Chart(lens_chart(found), on_point_click=self._choose)
            chart.style(
                f"width:max(100%, {100 + CELL_WIDTH * n_tokens}px); height:{44 + ROW_HEIGHT * n_places}px"
            )
        with ui.element("div").classes("studio-grid full-width"):
            with ui.element("section").classes("studio-card studio-stack"):
                ui.label("How far each layer is from the output (KL in nats)").classes(
                    "studio-small text-weight-medium"
                )
                points = [(float(i), float(value)) for i, value in enumerate(found.mean_kl)]
                Chart(line_chart([("mean over the text", "#2f7de1", points)], "after layer")).classes(
                    "full-width studio-chart"
                )
            with ui.element("section").classes("studio-card studio-stack"):
                self.title = ui.label().classes("studio-small text-weight-medium")
                self.candidates = Chart({}).classes("full-width studio-chart")
        self._show_position(n_tokens - 1, n_places - 1)

    def _choose(self, event: Any) -> None:
        if isinstance(event.value, list):
            self._show_position(int(event.value[0]), int(event.value[1]))

    def _show_position(self, at: int, row: int) -> None:
        found = self.found
        if found is None:
            return
        place = "the embedding" if row == 0 else f"layer {found.places[row]}"
        self.title.set_text(f"After “{visible(found.tokens[at]).strip()}”, {place} predicts")
        rows = [
            (visible(name), round(100 * float(share), 2))
            for name, share in zip(found.top_tokens[row][at], found.top_probabilities[row, at], strict=True)
        ]
        self.candidates.show(bar_chart(rows, "per cent"))
