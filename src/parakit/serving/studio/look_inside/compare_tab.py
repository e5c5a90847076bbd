"""Two checkpoints: how much each matrix changed, and what both predict for a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.differences import CheckpointDifference, compare_checkpoints
from parakit.inspection.next_tokens import NextTokens, next_tokens
from parakit.reports.inspection.page import visible
from parakit.serving.studio.charts import heat_map
from parakit.serving.studio.look_inside.models import MODELS
from parakit.serving.studio.widgets.chart import Chart
from parakit.serving.studio.working import working

MAX_ROWS = 200


def difference_chart(found: CheckpointDifference) -> dict[str, Any]:
    """Layers by matrices: the norm of the difference over the norm of the first checkpoint's."""
    layers = list(dict.fromkeys(one.layer for one in found.matrices))
    matrices = list(dict.fromkeys(one.matrix for one in found.matrices))
    cells = [
        (matrices.index(one.matrix), layers.index(one.layer), round(one.relative_norm, 5))
        for one in found.matrices
    ]
    high = max((value for _, _, value in cells), default=1.0) or 1.0
    options = heat_map(matrices, layers, cells, 0.0, high)
    options["grid"] |= {"left": 120, "bottom": 120}
    options["xAxis"]["axisLabel"] = {"color": "#8a8f98", "rotate": 45, "interval": 0}
    return options


def predictions(model: Model, text: str) -> NextTokens:
    """What follows at each position. `UserError` for an empty text, and as `next_tokens`."""
    if not text.strip():
        raise UserError("there is no text", "write one")
    return next_tokens(model, text, n_candidates=3)


def prediction_rows(first: NextTokens, second: NextTokens) -> list[dict[str, Any]]:
    """A row for each token of the text: what both models give the token that comes, and what they think likeliest."""
    rows = []
    for at, token in enumerate(first.tokens[:MAX_ROWS]):
        row: dict[str, Any] = {"number": at, "token": visible(token)}
        for name, found in (("first", first), ("second", second)):
            if at < len(found.tokens):
                wanted = found.actual_probabilities[at]
                row[name] = (
                    f"{visible(found.top_tokens[at][0])}  {100 * float(found.top_probabilities[at, 0]):.0f} %"
                )
                row[f"{name}_next"] = "" if wanted != wanted else f"{100 * float(wanted):.1f} %"
        rows.append(row)
    return rows


class CompareTab:
    """The chosen model and another one."""

    def __init__(self, get_model: Callable[[], Path | None]) -> None:
        self.get_model = get_model
        with ui.row().classes("full-width items-end studio-near"):
            self.other = ui.select({}, label="Compare with", with_input=True).classes(
                "studio-grow studio-wide"
            )
            ui.button("Compare the weights", on_click=self._weights).props("no-caps")
        self.weights_note = ui.label().classes("studio-small studio-muted").props('role="status"')
        self.weights = ui.column().classes("full-width studio-near")
        with ui.row().classes("full-width items-end studio-near"):
            self.text = ui.textarea("Text", value="The keys to the cabinet are on the table.")
            self.text.props("autogrow outlined dense rows=1").classes("studio-grow studio-wide")
            ui.button("Compare predictions", on_click=self._predictions).props("no-caps")
        self.text_note = ui.label().classes("studio-small studio-muted").props('role="status"')
        self.table = ui.column().classes("full-width")

    def set_models(self, options: dict[str, str]) -> None:
        """The models that there are."""
        names = list(options)
        value = self.other.value if self.other.value in options else (names[1] if len(names) > 1 else None)
        self.other.set_options(options, value=value)

    def suggest(self, chosen: Path) -> None:
        """Compare with a model next to the chosen one, which is often another stage of the same build."""
        options = list(self.other.options)
        near = [name for name in options if Path(name).parent == chosen.parent and name != str(chosen)]
        others = near or [name for name in options if name != str(chosen)]
        if (others and self.other.value in (None, str(chosen))) or (near and self.other.value not in near):
            self.other.set_value(others[0])

    def _pair(self) -> tuple[Path, Path]:
        first, second = self.get_model(), self.other.value
        if first is None or not second:
            raise UserError("two models are compared", "choose another model to compare with")
        return first, Path(second)

    async def _weights(self) -> None:
        self.weights.clear()
        async with working(self.weights_note, "comparing every matrix") as failed:
            found = await MODELS.run(compare_checkpoints, *self._pair())
        if failed:
            return
        with self.weights:
            ui.label(
                "The norm of the difference over the norm of the chosen model's matrix, by layer and matrix."
            ).classes("studio-small studio-muted")
            n_layers = len({one.layer for one in found.matrices})
            with ui.element("div").classes("full-width studio-scroll"):
                Chart(difference_chart(found)).style(
                    f"width:max(100%, 640px); height:{150 + 26 * n_layers}px"
                )

    async def _predictions(self) -> None:
        self.table.clear()
        rows: list[dict[str, Any]] = []
        async with working(self.text_note, "reading the text with both") as failed:
            first, second = self._pair()
            found = [
                await MODELS.compute(path, predictions, self.text.value or "") for path in (first, second)
            ]
            if found[0].tokens != found[1].tokens:
                raise UserError(
                    "the two models read the text as other tokens", "compare models with the same tokenizer"
                )
            rows = prediction_rows(*found)
        if failed:
            return
        columns = [
            ("token", "Token"),
            ("first", "Chosen model predicts"),
            ("first_next", "What comes"),
            ("second", "Other model predicts"),
            ("second_next", "What comes"),
        ]
        with self.table:
            ui.table(
                columns=[
                    {"name": key, "label": label, "field": key, "align": "left"} for key, label in columns
                ],
                rows=rows,
                row_key="number",
            ).classes("full-width").props('flat bordered dense aria-label="Predictions of both models"')
