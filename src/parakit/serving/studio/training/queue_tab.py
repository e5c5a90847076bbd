"""Builds: a form for the recipe with its YAML and its command, the queue, and what each build printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nicegui import run, ui

from parakit.common.errors import UserError
from parakit.common.formatting import long_duration
from parakit.recipe import built_in_recipe
from parakit.serving.studio.training.build_queue import (
    RECIPES,
    BuildQueue,
    QueuedBuild,
    save_recipe,
)
from parakit.serving.studio.training.recipe_form import (
    GENERAL,
    FormField,
    FormSection,
    changed,
    check,
    form_sections,
    parse_yaml,
    read_value,
    to_yaml,
)
from parakit.serving.studio.working import sentences

COLORS = {
    "waiting": "grey-7",
    "running": "primary",
    "stopping": "orange-9",
    "finished": "positive",
    "stopped": "orange-9",
    "failed": "negative",
    "lost": "grey-7",
}
LOG_LINES = 40


@cache
def queue_of(root: Path) -> BuildQueue:
    """The queue of a folder: one for all pages of this process, advanced by a thread of its own."""
    import threading
    import time

    queue = BuildQueue(root)

    def advance() -> None:
        while True:
            try:
                queue.advance()
            except UserError:  # a full disk: said when a person queues something, tried again here
                time.sleep(10)
            time.sleep(1)

    threading.Thread(target=advance, name="build-queue", daemon=True).start()
    return queue


class QueueTab:
    """The queue, and below it the form of a new build."""

    def __init__(self, root: Path) -> None:
        self.root, self.queue = root, queue_of(root)
        self.drawn: Any = None
        self.open_log = ""
        with ui.row().classes("items-center full-width studio-near"):
            ui.label("Queue").classes("text-weight-medium")
            ui.button("Remove what has ended", on_click=self._remove_ended).props("flat dense no-caps")
        self.list = ui.column().classes("full-width studio-near")
        self.log_title = ui.label().classes("studio-small text-weight-medium")
        self.findings = ui.column().classes("full-width studio-tight")
        self.log = ui.label().classes(
            "full-width studio-text studio-break studio-mono studio-small studio-log"
        )
        self.log.props('tabindex=0 aria-label="What the build printed"')
        with ui.expansion("A new build", icon="add", value=True).classes("full-width"):
            RecipeForm(root, self._add)
        self.refresh()

    def refresh(self) -> None:
        """Draw the queue as it is; nothing where nothing changed."""
        items = list(self.queue.items)
        if items != self.drawn:
            self.drawn = items
            self.list.clear()
            with self.list:
                if not items:
                    ui.label("No build is in the queue.").classes("studio-muted")
                for item in reversed(items):
                    self._row(item)
        running = [one.id for one in items if one.state in ("running", "stopping")]
        self._show_log(self.open_log or (running[0] if running else ""))

    def _row(self, item: QueuedBuild) -> None:
        with ui.element("section").classes("studio-card studio-stack"):
            with ui.row().classes("items-center full-width studio-near"):
                ui.badge(item.state, color=COLORS[item.state])
                ui.label(item.name).classes("text-weight-medium")
                ui.space()
                if item.has_ended:
                    ui.button("Start again", on_click=lambda: self._try(lambda: self.queue.again(item.id)))
                else:
                    text = "Stop now" if item.state == "stopping" else "Stop"
                    ui.button(text, on_click=lambda: self._try(lambda: self.queue.stop(item.id)))
                ui.button("Log", on_click=lambda: self._open(item.id)).props("flat")
            ui.label(" ".join(item.command)).classes("studio-mono studio-small studio-break studio-muted")
            if item.state == "lost":
                ui.label(
                    "It ended while no studio was running; start it again to resume what is left."
                ).classes("studio-small studio-muted")
            if item.ended and item.state != "lost":
                ui.label(f"ended after {long_duration(item.ended - item.created)}").classes(
                    "studio-small studio-muted"
                )

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except UserError as error:
            ui.notify(sentences(error), type="negative")
        self.refresh()

    def _open(self, item_id: str) -> None:
        self.open_log = "" if self.open_log == item_id else item_id
        self.refresh()

    def _show_log(self, item_id: str) -> None:
        if not item_id:
            self.log_title.set_text("")
            self.log.set_text("")
            self.findings.clear()
            return
        lines = self.queue.log_end(item_id).splitlines()
        self.log_title.set_text(f"What build {item_id} printed")
        text = "\n".join(lines[-LOG_LINES:])
        if text != self.log.text:
            self.log.set_text(text)
            self.findings.clear()
            with self.findings:
                for line in self.queue.doctor_findings(item_id):
                    ui.label(line).classes("studio-small")

    def _remove_ended(self) -> None:
        self._try(self.queue.remove_ended)

    async def _add(self, name: str, text: str) -> bool:
        try:
            recipe = await run.io_bound(save_recipe, self.root, name, text)
            self.queue.add(recipe, name)
        except UserError as error:
            ui.notify(sentences(error), type="negative")
            return False
        self.refresh()
        return True


def recipe_files(root: Path) -> dict[str, str]:
    """Recipes to start from, by path: the ones that come with the package, and those of the folder."""
    found = {str(path): f"{path.stem} (built in)" for path in sorted(built_in_recipe().parent.glob("*.yaml"))}
    own = sorted((root / RECIPES).glob("*.yaml")) + sorted(root.glob("*.yaml"))
    return {**{str(path): path.stem for path in own}, **found}


class RecipeForm:
    """The settings as fields and as YAML; a change of one shows in the other."""

    def __init__(self, root: Path, on_add: Callable[[str, str], Any]) -> None:
        self.root, self.on_add = root, on_add
        self.mapping: dict[str, Any] = {}
        self.open: set[str] = {GENERAL}
        with ui.row().classes("items-end full-width studio-near"):
            self.source = ui.select(recipe_files(root), label="Start from", on_change=self._load)
            self.source.classes("studio-wide")
            ui.button("Check", on_click=self._check).props("outline no-caps")
            ui.button("Add to the queue", icon="playlist_add", on_click=self._add).props("no-caps")
        self.message = ui.label().classes("studio-small studio-text").props('role="status"')
        with ui.element("div").classes("studio-form"):
            self.form = ui.column().classes("full-width studio-tight")
            with ui.column().classes("full-width studio-near studio-sticky"):
                self.yaml = ui.textarea("Recipe (YAML)", on_change=self._read_yaml)
                self.yaml.props("outlined autogrow input-class=font-mono debounce=600").classes(
                    "full-width studio-small"
                )
                ui.label("The command that this stands for").classes("studio-small studio-muted")
                self.command = ui.label().classes("studio-mono studio-small studio-break")
        self.source.set_value(str(built_in_recipe()))

    def _load(self, event: Any) -> None:
        try:
            text = Path(event.value).read_text(encoding="utf-8")
            mapping = {"name": Path(event.value).stem} | parse_yaml(text)
        except (OSError, UserError) as error:
            self._say(str(error), bad=True)
            return
        self.mapping = mapping
        self._write_yaml()
        self._draw()

    def _read_yaml(self, event: Any) -> None:
        try:
            mapping = parse_yaml(event.value or "")
        except UserError as error:
            self._say(sentences(error), bad=True)
            return
        if mapping != self.mapping:
            self.mapping = mapping
            self._draw()
        self._check()

    def _write_yaml(self) -> None:
        self.yaml.set_value(to_yaml(self.mapping))
        self._show_command()

    def _show_command(self) -> None:
        name = str(self.mapping.get("name", "my-model"))
        self.command.set_text(f"parakit build {RECIPES}/{name}.yaml --name {name}")

    def _check(self) -> bool:
        self._show_command()
        try:
            check(self.mapping)
        except UserError as error:
            self._say(sentences(error), bad=True)
            return False
        self._say("The recipe is valid.", bad=False)
        return True

    def _say(self, text: str, bad: bool) -> None:
        self.message.set_text(text)
        self.message.classes(add="text-negative" if bad else "text-positive")
        self.message.classes(remove="text-positive" if bad else "text-negative")

    async def _add(self) -> None:
        if self._check():
            name = str(check(self.mapping).name)
            if await self.on_add(name, self.yaml.value or ""):
                self._say(f"{name} is in the queue.", bad=False)
                self.source.set_options(recipe_files(self.root), value=self.source.value)

    def _draw(self) -> None:
        self.form.clear()
        with self.form:
            for section in form_sections(self.mapping):
                self._section(section)

    def _section(self, section: FormSection) -> None:
        title = section.title + ("" if section.present else " (not set)")
        panel = ui.expansion(title, caption=section.description, value=section.name in self.open)
        panel.classes("full-width").props("dense")
        filled = {"done": False}

        def fill() -> None:
            if not filled["done"]:
                filled["done"] = True
                with panel:
                    self._fields([one for one in section.fields if one.is_common])
                    self._folded(section)

        def toggled(event: Any) -> None:
            (self.open.add if event.value else self.open.discard)(section.name)
            if event.value:
                fill()  # hundreds of fields that nobody opens cost nothing

        panel.on_value_change(toggled)
        if section.name in self.open:
            fill()

    def _fields(self, fields: Sequence[FormField]) -> None:
        with ui.element("div").classes("studio-fields"):
            for one in sorted(fields, key=lambda one: one.value is None):
                self._field(one)

    def _folded(self, section: FormSection) -> None:
        """The settings that few recipes choose; their fields are made when they are opened."""
        rest = [one for one in section.fields if not one.is_common]
        if not rest:
            return
        key = f"{section.name} more"
        more = ui.expansion(f"{len(rest)} more settings", value=key in self.open)
        more.classes("full-width studio-muted").props("dense")
        filled = {"done": False}

        def fill() -> None:
            if not filled["done"]:
                filled["done"] = True
                with more:
                    self._fields(rest)

        def toggled(event: Any) -> None:
            (self.open.add if event.value else self.open.discard)(key)
            if event.value:
                fill()

        more.on_value_change(toggled)
        if key in self.open:
            fill()

    def _field(self, one: FormField) -> None:
        set_value = self._setter(one)
        hint = f'hint="{_attribute(one.default and f"default: {one.default}")}"'
        if one.kind == "switch":
            options = {"": f"default ({one.default})", "true": "yes", "false": "no"}
            shown = "" if one.value is None else str(bool(one.value)).lower()
            element: Any = ui.select(options, value=shown, label=one.title, on_change=set_value)
        elif one.kind == "choice":
            options = {"": f"default ({one.default})", **{name: name for name in one.choices}}
            value = "" if one.value is None or str(one.value) not in options else str(one.value)
            element = ui.select(options, value=value, label=one.title, on_change=set_value)
        elif one.kind in ("list", "yaml"):
            element = ui.textarea(one.title, value=_shown(one), on_change=set_value)
            element.props(f"autogrow dense debounce=700 {hint}")
        else:
            element = ui.input(one.title, value=_shown(one), on_change=set_value)
            element.props(f"dense debounce=700 {hint}")
        element.classes("full-width")
        if one.description:
            with element:
                ui.tooltip(one.description).classes("studio-prose")

    def _setter(self, one: FormField) -> Callable[[Any], None]:
        def set_value(event: Any) -> None:
            try:
                text = event.value
                if one.kind in ("switch", "choice"):
                    value: Any = {"": None, "true": True, "false": False}.get(text, text)
                    value = int(value) if isinstance(value, str) and value.isdigit() else value
                else:
                    value = read_value(one.kind, text)
            except UserError as error:
                self._say(f"{one.title}: {error.message}. {error.hint}", bad=True)
                return
            self.mapping = changed(self.mapping, one.path, value)
            self._write_yaml()
            self._check()

        return set_value


def _shown(one: FormField) -> str:
    if one.value is None:
        return ""
    if one.kind == "list" and isinstance(one.value, list):
        return "\n".join(map(str, one.value))
    if one.kind == "yaml":
        return to_yaml({"v": one.value}).removeprefix("v:").strip("\n").lstrip(" ")
    return str(one.value)


def _attribute(text: str) -> str:
    """Text inside quotes of NiceGUI's props."""
    return text.replace("\\", "").replace('"', "'")
