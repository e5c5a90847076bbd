"""Words and texts as vectors: nearest words, analogies, similarity, and a map in the plane."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nicegui import ui

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.vectors.projection import PlaneMap, plane_map
from parakit.inspection.vectors.texts import nearest_words, text_similarity, word_query
from parakit.inspection.vectors.word_vectors import WordVectors, word_vectors
from parakit.reports.inspection.page import map_view
from parakit.serving.studio.charts import bar_chart, heat_map, scatter
from parakit.serving.studio.look_inside.models import MODELS
from parakit.serving.studio.widgets.chart import Chart
from parakit.serving.studio.working import working

MAX_WORDS, MAX_TEXTS, N_NEIGHBOURS = 8, 24, 10


def neighbours(model: Model, words: list[str], method: Any) -> dict[str, Any]:
    """The nearest words of each word, and all of them on a plane. `UserError` for no word and for too many."""
    if not 0 < len(words) <= MAX_WORDS:
        raise UserError(f"{len(words)} words were given", f"give one to {MAX_WORDS}, with commas between")
    vectors: WordVectors = word_vectors(model)
    found, placed = {}, {}
    for word in words:
        near, tokens = nearest_words(model, vectors, word, N_NEIGHBOURS)
        note = "" if len(tokens) == 1 else f"the mean of {len(tokens)} tokens"
        found[word] = (note, [(one.word, round(one.cosine, 4)) for one in near])
        placed[word] = word_query(model, word)[0]
        for one in near:
            placed.setdefault(one.word, vectors.vectors[vectors.rows[one.word]])
    plane = plane_map(tuple(placed), np.stack(list(placed.values())), method)
    return {"found": found, "plane": plane, "strong": set(words)}


def analogy(model: Model, a: str, b: str, c: str) -> list[tuple[str, float]]:
    """a is to b as c is to what: the nearest words to b - a + c."""
    if not (a and b and c):
        raise UserError("an analogy has three words", "fill in all three fields")
    return [(one.word, round(one.cosine, 4)) for one in word_vectors(model).analogy(a, b, c, N_NEIGHBOURS)]


def similarity(model: Model, texts: list[str]) -> np.ndarray:
    """The cosine of each text with each (N, N)."""
    if not 2 <= len(texts) <= MAX_TEXTS:
        raise UserError(f"{len(texts)} texts were given", f"give 2 to {MAX_TEXTS}, one a line")
    return text_similarity(model, texts).cosine


class VectorsTab:
    """Three forms with what they find."""

    def __init__(self, get_model: Callable[[], Path | None]) -> None:
        self.get_model = get_model
        with ui.element("section").classes("studio-card studio-stack"):
            with ui.row().classes("full-width items-end studio-near"):
                self.words = ui.input("Words, with commas between", value="bank, river, money")
                self.words.props("dense").classes("studio-grow studio-wide").on("keydown.enter", self._near)
                self.method = ui.select(
                    {"pca": "principal components", "neighbours": "neighbours (t-SNE)"},
                    value="pca",
                    label="Map",
                ).props("dense")
                ui.button("Nearest words", on_click=self._near).props("no-caps")
            self.near_note = ui.label().classes("studio-small studio-muted").props('role="status"')
            self.near_box = ui.column().classes("full-width studio-near")
        with ui.element("section").classes("studio-card studio-stack"):
            with ui.row().classes("full-width items-end studio-near"):
                self.parts = [
                    ui.input(label, value=value).props("dense").classes("studio-narrow")
                    for label, value in (("", "man"), ("is to", "king"), ("as", "woman"))
                ]
                self.parts[0].props('aria-label="First word"')
                ui.label("is to …").classes("q-pb-sm")
                ui.button("Answer", on_click=self._analogy).props("no-caps")
            self.analogy_note = ui.label().classes("studio-small studio-muted").props('role="status"')
            self.analogy_box = ui.column().classes("full-width")
        with ui.element("section").classes("studio-card studio-stack"):
            self.texts = ui.textarea(
                "Texts, one a line",
                value="A cat sleeps on the sofa.\nThe kitten takes a nap.\nStocks fell sharply today.\nThe market lost value.",
            )
            self.texts.props("autogrow outlined dense").classes("full-width")
            ui.button("Compare the texts", on_click=self._similarity).props("no-caps")
            self.texts_note = ui.label().classes("studio-small studio-muted").props('role="status"')
            self.texts_box = ui.column().classes("full-width")

    async def _near(self) -> None:
        words = [word.strip() for word in (self.words.value or "").split(",") if word.strip()]
        found = await self._compute(self.near_note, self.near_box, neighbours, words, self.method.value)
        if found is not None:
            with self.near_box:
                self._draw_near(found)

    def _draw_near(self, found: dict[str, Any]) -> None:
        with ui.element("div").classes("studio-grid full-width studio-near"):
            for word, (note, rows) in found["found"].items():
                with ui.column().classes("studio-tight full-width"):
                    ui.label(word + (f" ({note})" if note else "")).classes("studio-small text-weight-medium")
                    Chart(bar_chart(rows, "cosine")).classes("full-width").style("height:290px")
            with ui.column().classes("studio-tight full-width"):
                self._draw_map(found["plane"], found["strong"])

    def _draw_map(self, plane: PlaneMap, strong: set[str]) -> None:
        view = map_view(plane, strong)
        points = [(one["shown"], one["x"], -one["y"], one["strong"]) for one in view["places"]]
        ui.label("Words on a plane").classes("studio-small text-weight-medium")
        Chart(scatter(points)).classes("full-width").style("height:330px")
        ui.label(view["note"]).classes("studio-small studio-muted")

    async def _analogy(self) -> None:
        words = [(part.value or "").strip() for part in self.parts]
        found = await self._compute(self.analogy_note, self.analogy_box, analogy, *words)
        if found is not None:
            with self.analogy_box:
                Chart(bar_chart(found, "cosine")).classes("full-width studio-prose").style("height:290px")

    async def _similarity(self) -> None:
        texts = [line.strip() for line in (self.texts.value or "").splitlines() if line.strip()]
        found = await self._compute(self.texts_note, self.texts_box, similarity, texts)
        if found is None:
            return
        names = [
            f"{number}. {text[:18]}{'…' if len(text) > 18 else ''}" for number, text in enumerate(texts, 1)
        ]
        cells = [(j, i, round(float(found[i, j]), 3)) for i in range(len(texts)) for j in range(len(texts))]
        options = heat_map(names, names, cells, float(found.min()), 1.0)
        options["grid"] |= {"left": 170, "bottom": 110}
        options["xAxis"]["axisLabel"] = {"color": "#8a8f98", "rotate": 35, "interval": 0}
        options["series"][0]["label"] = {"show": len(texts) <= 10}
        with self.texts_box:
            Chart(options).classes("full-width studio-prose").style(f"height:{170 + 36 * len(texts)}px")

    async def _compute(self, note: Any, box: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        path, found = self.get_model(), None
        box.clear()
        if path is not None:
            async with working(note, "computing"):
                found = await MODELS.compute(path, function, *arguments)
        return found
