"""What a person does and sees on the page Training."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serving.studio.browsing import SCHEMES, WAIT, WIDTHS
from tests.short_suite import crossed

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def growing_run(studio_folder: Path) -> Path:
    """The metrics of a run under way."""
    path = studio_folder / "builds" / "growing" / "work" / "pretrain" / "0123" / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    (path.parent / "plan.json").write_text("{}")
    (path.parents[3] / "build.json").write_text("{}")
    append(path, 1)
    yield path
    shutil.rmtree(studio_folder / "builds" / "growing", ignore_errors=True)


def append(path: Path, step: int) -> None:
    row = {
        "kind": "step",
        "step": step,
        "loss": 5 / step,
        "grad_norm": 1.0,
        "learning_rate": 0.1,
        "tokens": 10,
    }
    with path.open("a") as file:
        file.write(
            json.dumps(row | {"seconds": 1.0, "tokens_per_second": 10.0, "kl": 0.5, "reward": 0.25}) + "\n"
        )


@crossed("width, scheme", WIDTHS, SCHEMES)
def test_curves_grow_while_a_run_trains(
    visit: Callable[..., Page], growing_run: Path, width: int, scheme: str
) -> None:
    page = visit("/training", width, scheme)
    page.get_by_text("growing / pretrain · running").wait_for()
    for title in ("Loss", "Gradient norm", "Tokens a second", "Reward", "KL to the reference"):
        page.get_by_text(title, exact=True).first.wait_for()
    page.get_by_role("tab", name="Compare").click()
    page.locator('[aria-label="What the runs reached"] td').first.wait_for()
    append(growing_run, 2)
    page.get_by_role("cell", name="20", exact=True).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shutil.rmtree(growing_run.parents[3])
    page.get_by_role("tab", name="Curves").click()
    page.get_by_text("the folder was deleted or moved").wait_for()


def test_two_runs_are_compared_with_samples_and_times(visit: Callable[..., Page]) -> None:
    page = visit("/training")
    page.get_by_text("primer / pretrain · finished").wait_for()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("cell", name="plan.learning_rate").wait_for()
    page.get_by_role("tab", name="Time").click()
    page.locator("canvas").first.wait_for()
    page.get_by_role("tab", name="Samples").click()
    page.get_by_text("written samples yet").or_(page.get_by_text("After step")).first.wait_for()


def test_a_build_is_queued_stopped_and_listed(visit: Callable[..., Page], studio_folder: Path) -> None:
    page = visit("/training")
    page.get_by_role("tab", name="Builds").click()
    page.get_by_text("The recipe is valid.").wait_for()
    text = page.get_by_label("Recipe (YAML)")
    text.fill("name: mine\nsise: 1m\n")
    page.get_by_role("status").filter(has_text="sise").wait_for()
    recipe = "name: mine\nsize: 60k\ntext:\n  primer: {seed: 0}\npretrain: {max_steps: 100000}\n"
    text.fill(recipe)
    page.get_by_text("The recipe is valid.").wait_for()
    page.get_by_text("parakit build recipes/mine.yaml --name mine").wait_for()
    page.get_by_label("Size", exact=True).fill("80k")
    page.wait_for_function(
        "document.querySelector('textarea[aria-label=\"Recipe (YAML)\"]').value.includes('80k')"
    )
    page.get_by_role("button", name="Add to the queue").click()
    page.get_by_text("mine is in the queue.").wait_for()
    page.get_by_text("running", exact=True).wait_for()
    assert "80k" in (studio_folder / "recipes" / "mine.yaml").read_text()
    page.get_by_role("button", name="Stop", exact=True).click()
    end = time.monotonic() + 60
    while page.get_by_text("stopped", exact=True).count() == 0 and time.monotonic() < end:
        if page.get_by_role("button", name="Stop now").count():
            page.get_by_role("button", name="Stop now").click()
        page.wait_for_timeout(500)
    page.get_by_role("button", name="Start again").wait_for()
    page.get_by_role("button", name="Remove what has ended").click()
    page.get_by_text("No build is in the queue.").wait_for()


@pytest.mark.long
def test_the_doctor_examines_a_finished_run(visit: Callable[..., Page]) -> None:
    page = visit("/training")
    page.get_by_text("finished").first.wait_for()
    page.get_by_role("tab", name="Doctor").click()
    page.get_by_role("button", name="Examine").first.click()
    page.get_by_text("of them with findings.").wait_for(timeout=4 * WAIT)
