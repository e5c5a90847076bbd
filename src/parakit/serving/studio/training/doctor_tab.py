"""The doctor's findings on a finished run: `parakit doctor` in a process of its own, its checks as a list."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from nicegui import ui

from parakit.common.artifacts import read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.serving.studio.training.curves_tab import ChosenRuns
from parakit.serving.studio.working import working

MAX_SECONDS = 300.0
DATA_KINDS = ("shards", "example_shards", "preferences")


def doctor_command(folder: Path) -> list[str]:
    """The command that examines a model and its data, which are next to it where the build was moved."""
    command = ["doctor", str(folder)]
    with contextlib.suppress(UserError, OSError):
        for parent in read_lineage(folder).get("parents") or []:
            recorded = Path(parent["path"])
            near = folder.parent / recorded.name
            if parent["kind"] in DATA_KINDS and not recorded.is_dir() and near.is_dir():
                return [*command, "--data", str(near)]
    return command


async def examine(folder: Path) -> list[JsonObject]:
    """The results of the doctor's checks of a model and the data that it was trained on: name, passed, detail, remedy.
    `UserError` where the doctor cannot read them, or takes longer than five minutes.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parakit", *doctor_command(folder), "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), MAX_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise UserError(
            f"the doctor took longer than {MAX_SECONDS:g} seconds", f"run `parakit doctor {folder}`"
        ) from None
    try:
        found: list[JsonObject] = json.loads(output)["checks"]
        return found
    except (ValueError, KeyError, TypeError):
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        message = lines[0].removeprefix("error: ") if lines else f"exit status {process.returncode}"
        raise UserError(f"the doctor cannot examine it: {message}", " ".join(lines[1:3])) from None


def show_doctor(chosen: ChosenRuns) -> None:
    """A card for each finished run, examined when a person wants it."""
    finished = [one.run for one in chosen.shown.values() if one.run.state == "finished"]
    if not finished:
        ui.label(
            "Choose a finished run. What the doctor found before a build's stages is in the log under Builds."
        ).classes("studio-muted")
    for run in finished:
        with ui.element("section").classes("studio-card studio-stack"):
            with ui.element("div").classes("studio-row"):
                ui.label(run.name).classes("text-weight-medium")
                button = ui.button("Examine").props("outline no-caps size=sm")
            ui.label(shlex.join(["parakit", *doctor_command(run.folder)])).classes(
                "studio-mono studio-break studio-muted"
            )
            status = ui.label().classes("studio-small").props('role="status"')
            box = ui.element("div").classes("studio-stack studio-tight")
        button.on_click(lambda folder=run.folder, status=status, box=box: _examine(folder, status, box))


async def _examine(folder: Path, status: Any, box: Any) -> None:
    box.clear()
    async with working(status, "examining the model and its data") as failed:
        found = await examine(folder)
    if failed:
        return
    wrong = [one for one in found if not one.get("passed")]
    status.set_text(f"{len(found)} checks, {len(wrong)} of them with findings.")
    with box:
        for one in [*wrong, *(check for check in found if check.get("passed"))]:
            with ui.element("div").classes("row no-wrap items-start studio-near"):
                ui.icon("check_circle" if one.get("passed") else "error").classes(
                    "text-positive" if one.get("passed") else "text-negative"
                )
                remedy = "" if one.get("passed") else f" {one.get('remedy', '')}"
                ui.label(f"{one.get('name', '')}: {one.get('detail', '')}{remedy}").classes(
                    "studio-small studio-break"
                )
