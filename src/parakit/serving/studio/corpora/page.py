"""The page Data: the sets below the studio's folder, their rows with a search, what was left out and why, an overview."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nicegui import run, ui

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.formatting import quantity
from parakit.reports.corpus_page import corpus_view
from parakit.serving.studio.charts import bar_chart
from parakit.serving.studio.corpora.loss_masks import (
    MaskedRun,
    open_tokenizer,
    runs_of_row,
    tokenizer_folders,
)
from parakit.serving.studio.corpora.rows import (
    KINDS,
    DataSet,
    FoundRows,
    cleaning_samples,
    find_rows,
    find_sets,
    set_report,
    skip_reasons,
)
from parakit.serving.studio.widgets.chart import Chart
from parakit.serving.studio.working import sentences, working

PER_PAGE = 10
SHOWN_LETTERS = 1_200  # of a document, before a person wants all of it
TABS = {"rows": "Rows", "left": "Left out", "overview": "Overview"}


class DataPage:
    """What one visitor sees of the sets of `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sets: dict[str, DataSet] = {}
        self.start = 0
        self.found: FoundRows | None = None
        self.version = 0  # of what is drawn: a slow search that a newer one has overtaken draws nothing
        with ui.row().classes("full-width items-end studio-near"):
            self.select = ui.select({}, label="Set", with_input=True, on_change=self._open)
            self.select.classes("studio-grow")
            self.split = ui.select([], label="Split", on_change=self._search).classes("studio-narrow")
            ui.button(icon="refresh", on_click=self.look_again).props(
                'flat round aria-label="Look for sets again"'
            )
        self.note = ui.label().classes("studio-small studio-muted").props('role="status"')
        with ui.tabs().props("dense align=left no-caps mobile-arrows") as self.tabs:
            for name, title in TABS.items():
                ui.tab(name, title)
        with ui.tab_panels(self.tabs, value="rows", animated=False).classes("full-width studio-panel"):
            with ui.tab_panel("rows").classes("studio-panel"):
                self._build_rows()
            with ui.tab_panel("left").classes("studio-panel"):
                self.left = ui.column().classes("full-width studio-near")
            with ui.tab_panel("overview").classes("studio-panel"):
                self.overview_note = ui.label().classes("studio-small").props('role="status"')
                self.overview = ui.column().classes("full-width studio-near")
        self.tabs.on_value_change(self._draw_tab)
        ui.timer(0.01, self.look_again, once=True)

    def _build_rows(self) -> None:
        with ui.row().classes("full-width items-end studio-near"):
            self.text = ui.input("Search", on_change=self._search).props("dense clearable debounce=400")
            self.text.classes("studio-grow")
            self.tokenizer = ui.select({}, label="Tokenizer of the loss mask", on_change=self._draw_rows)
            self.tokenizer.classes("studio-wide").props("dense")
        with ui.row().classes("items-center studio-near"):
            self.back = ui.button(icon="chevron_left", on_click=lambda: self._turn(-PER_PAGE))
            self.back.props('flat dense aria-label="Rows before these"')
            self.count = ui.label().classes("studio-small").props('role="status"')
            self.next = ui.button(icon="chevron_right", on_click=lambda: self._turn(PER_PAGE))
            self.next.props('flat dense aria-label="Rows after these"')
        self.legend = ui.row().classes("items-center studio-near studio-small")
        with self.legend:
            ui.label("counted in the loss").classes("studio-counted")
            ui.label("read, not counted").classes("studio-uncounted")
            ui.label("<control token>").classes("studio-control")
        self.rows = ui.column().classes("full-width studio-near")

    def chosen(self) -> DataSet | None:
        """The set that is shown."""
        return self.sets.get(self.select.value or "")

    async def look_again(self) -> None:
        """Find the sets below the folder; the chosen one stays chosen."""
        found = await run.io_bound(find_sets, self.root) or []
        self.sets = {str(one.path): one for one in found}
        options = {name: f"{one.title} ({KINDS[one.kind]})" for name, one in self.sets.items()}
        value = self.select.value if self.select.value in options else next(iter(options), None)
        self.select.set_options(options, value=value)
        self.note.set_text("" if found else f"There are no data below {self.root} yet.")

    async def _open(self) -> None:
        one = self.chosen()
        if one is None:
            return
        splits = one.splits()
        self.start, self.found = 0, None
        is_chat = one.kind == "conversations"
        self.legend.set_visibility(is_chat)
        self.tokenizer.set_visibility(is_chat)
        if is_chat:
            folders = await run.io_bound(tokenizer_folders, one.path, self.root) or []
            options = {str(path): _below(path, self.root) for path in folders}
            self.tokenizer.set_options(options, value=next(iter(options), None))
        self.split.set_options(splits, value=None)
        self.split.set_value(splits[0] if splits else None)  # which searches
        await self._draw_tab()

    async def _turn(self, by: int) -> None:
        self.start = max(0, self.start + by)
        await self._search(keep=True)

    async def _search(self, _: Any = None, keep: bool = False) -> None:
        one = self.chosen()
        if one is None or not self.split.value:
            self.rows.clear()
            return
        self.start = self.start if keep else 0
        async with working(self.count, "searching") as failed:
            self.version += 1
            version = self.version
            found = await run.io_bound(
                find_rows, one, self.split.value, (self.text.value or "").strip(), self.start, PER_PAGE
            )
        if version != self.version:
            return
        self.found = None if failed else found
        if self.found is None or found is None:
            self.rows.clear()
            return
        last = self.start + len(found.rows)
        more = "" if found.is_complete else " found before the search stopped after 8 seconds"
        self.count.set_text(
            f"{self.start + 1:,} to {last:,} of {found.n_found:,}{more}"
            if found.rows
            else "nothing was found"
        )
        self.back.set_enabled(self.start > 0)
        self.next.set_enabled(last < found.n_found)
        await self._draw_rows()

    async def _draw_rows(self, _: Any = None) -> None:
        one, found = self.chosen(), self.found
        if one is None or found is None:
            return
        self.version += 1
        version = self.version
        masks: dict[int, list[MaskedRun] | str] = {}
        if one.kind == "conversations" and self.tokenizer.value:
            masks = await run.io_bound(_masks, Path(self.tokenizer.value), found) or {}
        if version != self.version:
            return
        self.rows.clear()
        with self.rows:
            for number, row in found.rows:
                with ui.element("section").classes("studio-card studio-stack studio-tight full-width"):
                    ui.label(f"Row {number + 1:,}").classes("studio-small studio-muted")
                    _draw_row(one.kind, row, masks.get(number))

    async def _draw_tab(self, _: Any = None) -> None:
        one = self.chosen()
        if one is None:
            return
        if self.tabs.value == "left":
            self.left.clear()
            with self.left:
                _draw_left_out(set_report(one))
        elif self.tabs.value == "overview":
            self.overview.clear()
            view: JsonObject | None = None
            async with working(self.overview_note, "reading the set"):
                if one.kind == "corpus":
                    view = await run.io_bound(corpus_view, one.path)
            with self.overview:
                _draw_overview(one, view)


def _below(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    return " / ".join(part for part in parts if part != "builds")


def _masks(folder: Path, found: FoundRows) -> dict[int, list[MaskedRun] | str]:
    """The runs of each row, or why it has none."""
    try:
        tokenizer = open_tokenizer(folder)
    except UserError as error:
        return {number: sentences(error) for number, _ in found.rows}
    masks: dict[int, list[MaskedRun] | str] = {}
    for number, row in found.rows:
        try:
            masks[number] = runs_of_row(tokenizer, row)
        except (UserError, TypeError) as error:
            masks[number] = sentences(error) if isinstance(error, UserError) else "the row is no conversation"
    return masks


def _draw_row(kind: str, row: JsonObject, mask: list[MaskedRun] | str | None) -> None:
    if row.get("damaged"):
        ui.label("This row is damaged, or too long to be shown.").classes("text-negative")
    elif kind == "conversations":
        _draw_conversation(row, mask)
    elif kind == "preferences":
        for turn in row.get("prompt") or []:
            _turn(str(turn.get("role", "")), str(turn.get("content", "")))
        for place, answer in enumerate(row.get("ranking") or [], 1):
            with ui.row().classes("no-wrap items-start studio-near"):
                ui.badge(str(place), color="positive" if place == 1 else "grey-7")
                ui.label(str(answer)).classes("studio-text")
    elif kind == "corpus":
        ui.label(str(row.get("source", ""))).classes("studio-small studio-muted studio-break")
        _long_text(str(row.get("text", "")))
        if steps := row.get("steps"):
            ui.label("changed by " + ", ".join(map(str, steps))).classes("studio-small studio-muted")
    else:
        for key, value in row.items():
            _turn(key, value if isinstance(value, str) else str(value))


def _draw_conversation(row: JsonObject, mask: list[MaskedRun] | str | None) -> None:
    if isinstance(mask, str):
        ui.label(mask).classes("studio-small text-negative")
    if not isinstance(mask, list):
        for turn in row.get("messages") or []:
            if isinstance(turn, dict):
                _turn(str(turn.get("role", "")), str(turn.get("content", "")))
        return
    with ui.element("div").classes("studio-text studio-loose"):
        for one in mask:
            kind = "studio-control" if one.is_control else ""
            label = ui.label(one.text).classes("studio-counted" if one.is_counted else "studio-uncounted")
            label.classes(kind)
    counted = sum(one.n_tokens for one in mask if one.is_counted)
    n = sum(one.n_tokens for one in mask)
    ui.label(f"The loss counts {counted:,} of {n:,} tokens.").classes("studio-small studio-muted")


def _turn(role: str, text: str) -> None:
    with ui.element("div").classes("full-width"):
        ui.label(role).classes("studio-small studio-muted")
        _long_text(text)


def _long_text(text: str) -> None:
    if len(text) <= SHOWN_LETTERS:
        ui.label(text).classes("studio-text")
        return
    label = ui.label(text[:SHOWN_LETTERS] + " …").classes("studio-text")
    button = ui.button(f"Show all {len(text):,} letters").props("flat dense no-caps size=sm")

    def show() -> None:
        label.set_text(text)
        button.delete()

    button.on_click(show)


def _draw_left_out(report: JsonObject) -> None:
    rows = skip_reasons(report)
    if not rows:
        ui.label("Nothing was left out.").classes("studio-muted")
    for one in rows:
        with ui.element("section").classes("studio-card studio-stack studio-tight full-width"):
            with ui.row().classes("items-center studio-near"):
                ui.label(f"{one.n:,} {one.unit}").classes("text-weight-medium studio-number")
                ui.label(one.reason)
            for example in one.examples:
                ui.label(example).classes("studio-small studio-mono studio-break")
            if one.way:
                ui.label(f"To include them: {one.way}").classes("studio-small studio-muted")
    samples = cleaning_samples(report)
    if samples:
        ui.label("What cleaning changed, by samples").classes("text-weight-medium q-mt-sm")
    for sample in samples:
        with ui.element("section").classes("studio-card studio-stack studio-tight full-width"):
            ui.label(f"{sample.step}: {sample.source}").classes("studio-small studio-muted studio-break")
            ui.label(sample.before[:SHOWN_LETTERS]).classes("studio-text studio-removed")
            if sample.after is None:
                ui.label("left out").classes("studio-small text-negative")
            else:
                ui.label(sample.after[:SHOWN_LETTERS]).classes("studio-text studio-counted")


def _draw_overview(one: DataSet, view: JsonObject | None) -> None:
    report = set_report(one)
    facts = [
        {"split": name} | (counts if isinstance(counts, dict) else {KINDS[one.kind]: counts})
        for name, counts in (report.get("splits") or {}).items()
    ]
    columns = [key for row in facts for key, value in row.items() if isinstance(value, int | float | str)]
    shown = list(dict.fromkeys(columns))
    if facts:
        ui.table(
            columns=[{"name": key, "label": key, "field": key, "align": "left"} for key in shown],
            rows=[{key: _figure(row.get(key)) for key in shown} for row in facts],
            row_key="split",
        ).classes("studio-table full-width").props('flat dense hide-pagination aria-label="Splits"')
    if view is None:
        return
    for warning in view["warnings"]:
        ui.label(f"{warning['what']}: {warning['remedy']}").classes("text-negative studio-small")
    with ui.element("div").classes("studio-grid"):
        lengths = [
            (f"{row['from']:,} to {row['to'] - 1:,}", row["documents"])
            for row in view["splits"]["train"]["lengths"]
        ]
        _chart("Training documents by length in characters", lengths, "documents")
        if isinstance(view["languages"], dict):
            shares = [(code, round(100 * share, 1)) for code, share in view["languages"].items()]
            _chart("Languages", shares, "per cent")
        largest = [
            (str(row.get("file") or row.get("source") or row.get("name"))[-28:], round(100 * row["share"], 1))
            for row in view["sources"]["largest"][:12]
        ]
        _chart("Largest sources", largest, "per cent of the training split")


def _chart(title: str, rows: list[tuple[str, float]], unit: str) -> None:
    if rows:
        with ui.element("section").classes("studio-card studio-tight"):
            ui.label(title).classes("text-weight-medium studio-small")
            Chart(bar_chart(rows, unit)).classes("studio-chart").style(
                f"height:{max(150, 60 + 24 * len(rows))}px"
            )


def _figure(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return quantity(value) if value >= 100_000 else f"{value:,}"
    return "" if value is None else str(value)
