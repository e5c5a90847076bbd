"""The senses of a word: whether a model's vectors of it tell them apart, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.behaviours.senses import BANK, SenseResult, measure_senses
from parakit.serving.studio.charts import line_chart
from parakit.serving.studio.look_inside.models import MODELS
from parakit.serving.studio.widgets.chart import Chart
from parakit.serving.studio.widgets.tables import text_table
from parakit.serving.studio.working import working

MAX_SENTENCES = 64
_EXAMPLE = "\n".join(f"{sense}: {sentence}" for sense, sentences in BANK.items() for sentence in sentences)


def read_sentences(text: str) -> dict[str, list[str]]:
    """Lines of `sense: sentence`, by sense. `UserError` for a line without a sense, and for fewer than two of two senses."""
    found: dict[str, list[str]] = {}
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > MAX_SENTENCES:
        raise UserError(f"{len(lines)} sentences were given", f"give {MAX_SENTENCES} at most")
    for number, line in enumerate(lines, 1):
        sense, colon, sentence = line.partition(":")
        if not (colon and sense.strip() and sentence.strip()):
            raise UserError(f"line {number} has no sense", "write for example `river: We sat on the bank.`")
        found.setdefault(sense.strip(), []).append(sentence.strip())
    if len(found) < 2 or min(map(len, found.values())) < 2:
        raise UserError(
            f"{len(lines)} sentences of {len(found)} senses were given",
            "give two of each of two senses or more",
        )
    return found


def senses_of(model: Model, word: str, text: str) -> SenseResult:
    """What `measure_senses` finds for the word in these lines."""
    if not word.strip():
        raise UserError("there is no word", "write one that all sentences have")
    return measure_senses(model, word.strip(), dict(read_sentences(text)))


class SensesTab:
    """A word, its sentences by sense, and what each layer makes of them."""

    def __init__(self, get_model: Callable[[], Path | None]) -> None:
        self.get_model = get_model
        with ui.row().classes("full-width items-end studio-near"):
            self.word = ui.input("Word", value="bank").props("dense").classes("studio-narrow")
            ui.button("Measure", icon="visibility", on_click=self.look).props("no-caps")
        self.text = ui.textarea("Sentences with the word, one a line: sense, colon, sentence", value=_EXAMPLE)
        self.text.props("outlined dense rows=8").classes("full-width")
        self.note = ui.label().classes("studio-small studio-muted").props('role="status"')
        self.box = ui.column().classes("full-width")

    async def look(self) -> None:
        """Compute and draw."""
        path, found = self.get_model(), None
        if path is None:
            return
        async with working(self.note, "reading the sentences") as failed:
            found = await MODELS.compute(path, senses_of, self.word.value or "", self.text.value or "")
        self.box.clear()
        if not failed and found is not None:
            with self.box:
                _draw(found)


def _draw(found: SenseResult) -> None:
    shares = found.right.mean(1)
    ui.label(
        f"The vector of “{found.word}” after each layer: how often the nearest of the other occurrences has the same sense, and"
        " the cosine of two occurrences of one sense and of two."
    ).classes("studio-small studio-muted studio-prose")
    lines = {
        "nearest has the same sense": shares,
        "cosine within": found.within,
        "cosine between": found.between,
    }
    colours = ("#2f7de1", "#2e9e6b", "#d9822b")
    series = [
        (name, colour, [(float(i), float(value)) for i, value in enumerate(values)])
        for (name, values), colour in zip(lines.items(), colours, strict=True)
    ]
    Chart(line_chart(series, "after layer")).classes("full-width studio-chart")
    best = found.layers[found.best]
    without = ", ".join(
        f"{name}: {100 * float(one):.0f} %"
        for name, one in zip(found.layers, found.without.mean(1), strict=False)
    )
    ui.label(
        f"{best} tells them apart best: {100 * float(shares[found.best]):.0f} % of {found.right.shape[1]}."
    ).classes("text-weight-medium").props("role=status")
    with ui.expansion("Without the attention of one layer").classes("studio-fold full-width"):
        ui.label(f"The same in {best} with the heads of a layer ablated: {without}").classes("studio-small")
    rows = [
        [
            one.sense,
            one.sentence,
            *(f"{sense}, {cosine:.2f}: {sentence}" for sentence, sense, cosine in one.neighbours[:1]),
        ]
        for one in found.neighbours
    ]
    text_table(["sense", "sentence", f"nearest in {best}"], rows, "Nearest occurrences", 3)
