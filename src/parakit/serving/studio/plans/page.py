"""The page Plan: a question, its answer in figures and charts, and the command that gives the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nicegui import run, ui

from parakit.common.formatting import byte_size, compact
from parakit.planning.run_plan import RunPlan
from parakit.serving.studio.charts import COLORS, bar_chart
from parakit.serving.studio.plans.requests import (
    METHODS,
    QUESTIONS,
    PlanAnswer,
    PlanRequest,
    answer,
    card_names,
    main_figures,
    remarks,
)
from parakit.serving.studio.widgets.chart import Chart
from parakit.serving.studio.working import working
from parakit.stages.planning.measuring import this_machine_if_known

FAMILIES = {"decoder": "decoder", "encoder": "encoder", "encoder-decoder": "encoder-decoder"}
EXAMPLES = {
    "time": ("1min", "10min", "1h", "8h"),
    "budget": ("5", "50", "500"),
    "memory": ("4GiB", "8GiB", "24GiB", "80GiB"),
    "size": ("1m", "10m", "125m", "1b", "gpt-2"),
}


class PlanPage:
    """What one visitor plans."""

    def __init__(self) -> None:
        self.request = PlanRequest()
        self.version = 0
        with ui.element("section").classes("studio-card studio-stack full-width"):
            self.question = (
                ui.toggle(
                    {name: title for name, (title, _) in QUESTIONS.items()},
                    value="time",
                    on_change=self._choose_question,
                )
                .props("no-caps unelevated toggle-color=primary spread=false")
                .classes("studio-questions")
            )
            with ui.row().classes("full-width items-end studio-near"):
                self.amount = ui.input("Amount", value=self.request.amount, on_change=self._change)
                self.amount.props("debounce=500 dense").classes("studio-narrow")
                self.examples = ui.row().classes("items-center studio-tight")
            with ui.row().classes("full-width items-end studio-near"):
                self.method = ui.select(METHODS, value="pretrain", label="Method", on_change=self._change)
                self.family = ui.select(FAMILIES, value="decoder", label="Family", on_change=self._change)
                self.tokens = ui.input("Tokens", on_change=self._change).props("debounce=500 hint=chosen")
                self.seq_len = ui.input("Tokens a row", on_change=self._change).props("debounce=500 hint=256")
                self.gpu = ui.select(
                    {"": "this machine", **{name: name for name in card_names()}},
                    value="",
                    label="Machine",
                    on_change=self._change,
                )
                self.n_gpus = ui.number("Cards", value=1, min=1, max=100_000, on_change=self._change)
                for element in (self.method, self.family, self.tokens, self.seq_len, self.gpu, self.n_gpus):
                    element.props("dense").classes("studio-narrow")
                self.checkpointing = ui.checkbox("Compute blocks again", on_change=self._change)
            ui.label("The command that this stands for").classes("studio-small studio-muted")
            self.command = ui.label().classes("studio-mono studio-break")
        self.status = ui.label().classes("studio-small").props('role="status"')
        self.box = ui.column().classes("full-width studio-near")
        self._show_fields()
        ui.timer(0.01, self._plan, once=True)

    async def _choose_question(self, event: Any) -> None:
        name = event.value
        self.request = replace(self.request, question=name, amount=QUESTIONS[name][1])
        self.amount.set_value(self.request.amount)
        self._show_fields()
        await self._plan()

    def _show_fields(self) -> None:
        is_size = self.request.question == "size"
        self.method.set_visibility(is_size)
        self.tokens.set_visibility(is_size)
        self.n_gpus.set_visibility(bool(self.gpu.value))
        self.checkpointing.set_visibility(self.request.question != "memory")
        self.examples.clear()
        with self.examples:
            for text in EXAMPLES[self.request.question]:
                button = ui.button(text, on_click=lambda t=text: self.amount.set_value(t))
                button.props("flat dense no-caps size=sm")

    async def _change(self, _: Any = None) -> None:
        self.request = PlanRequest(
            question=self.question.value or "time",
            amount=(self.amount.value or "").strip(),
            method=self.method.value,
            family=self.family.value,
            tokens=(self.tokens.value or "").strip(),
            seq_len=(self.seq_len.value or "").strip(),
            gpu=self.gpu.value or "",
            n_gpus=max(1, int(self.n_gpus.value or 1)),
            checkpointing=bool(self.checkpointing.value),
        )
        self.n_gpus.set_visibility(bool(self.gpu.value))
        await self._plan()

    async def _plan(self) -> None:
        self.version += 1
        version, request = self.version, self.request
        self.command.set_text(request.command())
        found: PlanAnswer | None = None
        waits = not request.gpu and await run.io_bound(this_machine_if_known) is None
        text = "measuring this machine, about ten seconds the first time" if waits else "planning"
        async with working(self.status, text) as failed:
            found = await run.io_bound(answer, request)
        if version != self.version:  # another change came while this was computed
            return
        self.box.clear()
        if failed or found is None:
            return
        self.status.set_text(f"On {found.machine}.")
        with self.box:
            if found.plan is not None:
                _draw_plan(found.plan)
            else:
                _draw_memory(found)


def _draw_plan(plan: RunPlan) -> None:
    with ui.element("div").classes("studio-figures"):
        for name, value, note in main_figures(plan):
            with ui.element("section").classes("studio-card studio-tight"):
                ui.label(name).classes("studio-small studio-muted")
                ui.label(value).classes("studio-figure")
                ui.label(note).classes("studio-small studio-muted")
    for line in remarks(plan):
        ui.label(line).classes("studio-small studio-prose")
    with ui.element("div").classes("studio-grid"):
        parts = [(name.replace("_", " "), n / 2**20) for name, n in plan.memory.parts().items()]
        _bars("Memory of one device", _rounded(parts), "MiB", COLORS[0])
        seconds = [(name.replace("_", " "), 1000 * value) for name, value in vars(plan.step).items() if value]
        _bars("Time of one step", _rounded(seconds), "milliseconds", COLORS[1])
        parameters = [
            (name.replace("_", " "), n / 1e6)
            for name, n in plan.spec.config.n_params().items()
            if n and name != "total"
        ]
        _bars("Parameters", _rounded(parameters), "millions", COLORS[2])


def _rounded(rows: list[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(name, float(f"{value:.3g}")) for name, value in rows]


def _bars(title: str, rows: list[tuple[str, float]], unit: str, color: str) -> None:
    if rows:
        with ui.element("section").classes("studio-card studio-tight"):
            ui.label(title).classes("text-weight-medium studio-small")
            Chart(bar_chart(rows, unit, color)).style(f"width:100%;height:{70 + 26 * len(rows)}px")


def _draw_memory(found: PlanAnswer) -> None:
    columns = [("method", "Method"), ("parameters", "Largest model"), ("peak", "Peak"), ("note", "With")]
    ui.table(
        columns=[{"name": key, "label": label, "field": key, "align": "left"} for key, label in columns],
        rows=[
            {
                "method": row.method,
                "parameters": compact(row.parameters),
                "peak": byte_size(row.peak_bytes),
                "note": row.note,
            }
            for row in found.rows
        ],
        row_key="method",
    ).classes("studio-table full-width").props(
        'flat dense hide-pagination :rows-per-page-options="[0]" aria-label="The largest models"'
    )
