"""Texts of documents, runs and recipes are shown as text: no markup of them becomes an element, and no script runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from parakit.common.artifacts import Lineage, writing_artifact

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = (
    "<img src=x onerror=window.hostile=1>",
    "<script>window.hostile=1</script>",
    "</textarea><svg onload=window.hostile=1>",
    "{{constructor.constructor('window.hostile=1')()}}",
    "javascript:window.hostile=1//\"'><b data-hostile>x</b>",
    "[a](javascript:window.hostile=1) **b**",
)


@pytest.fixture(scope="module")
def hostile_folder(studio_folder: Path) -> Iterator[Path]:
    """A set of conversations, a corpus and a run whose every text is hostile."""
    rows = [{"text": text, "source": text, "n_bytes": 1, "steps": [text]} for text in HOSTILE]
    chats = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}
        for text in HOSTILE
    ]
    report = {
        "splits": {"train": {"documents": 6, "bytes": 6}},
        "skipped": {HOSTILE[0]: 1},
        "skipped_files": [{"source": HOSTILE[1], "reason": f"{HOSTILE[0]}: x"}],
        "cleaning": [
            {
                "step": "s",
                "n_left_out": 1,
                "samples": [{"source": HOSTILE[0], "before": HOSTILE[2], "after": HOSTILE[3]}],
            }
        ],
    }
    for kind, lines in (("corpus", rows), ("conversations", chats)):
        with writing_artifact(studio_folder / f"hostile-{kind}", Lineage(kind, config={})) as folder:
            (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            (folder / "report.json").write_text(json.dumps(report))
    run = studio_folder / "<b data-hostile>run" / "training" / "metrics.jsonl"
    run.parent.mkdir(parents=True, exist_ok=True)
    samples = [{"prompt": text, "completion": text} for text in HOSTILE]
    metrics = [{"kind": "step", "step": 1, "loss": 1.0, "<b data-hostile>": 2.0, "tokens": 1, "seconds": 1}]
    run.write_text(
        "".join(
            json.dumps(one) + "\n" for one in [*metrics, {"kind": "sample", "step": 1, "samples": samples}]
        )
    )
    yield studio_folder
    for name in ("hostile-corpus", "hostile-conversations", run.parents[1].name):
        shutil.rmtree(studio_folder / name)  # the other tests of the folder see what is first in it


def nothing_ran(page: Page) -> None:
    assert page.evaluate("window.hostile") is None
    assert page.locator("[data-hostile], img[src=x]").count() == 0


@pytest.mark.parametrize("kind", ["corpus", "conversations"])
def test_rows_are_text(visit: Callable[..., Page], hostile_folder: Path, kind: str) -> None:
    page = visit("/data")
    page.get_by_text("Row 1", exact=True).wait_for()
    page.get_by_label("Set", exact=True).fill(f"hostile-{kind}")
    page.get_by_role("option", name=f"hostile-{kind}").first.click()
    page.get_by_text(HOSTILE[1]).first.wait_for()
    nothing_ran(page)
    page.get_by_label("Search").fill(HOSTILE[0])
    page.get_by_text("1 to 1 of 1").wait_for()
    page.get_by_role("tab", name="Left out").click()
    page.get_by_text(HOSTILE[3]).first.wait_for()
    nothing_ran(page)


def test_samples_names_and_recipes_are_text(visit: Callable[..., Page], hostile_folder: Path) -> None:
    page = visit("/training")
    page.get_by_text("<b data-hostile>run · finished").wait_for()
    page.get_by_role("tab", name="Samples").click()
    page.get_by_text(HOSTILE[1]).first.wait_for()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("cell", name="<b data-hostile>run").first.wait_for()
    page.get_by_role("tab", name="Builds").click()
    page.get_by_text("The recipe is valid.").wait_for()
    page.get_by_label("Recipe (YAML)").fill(
        f"name: {json.dumps(HOSTILE[0])}\nsize: {json.dumps(HOSTILE[3])}\n"
    )
    page.get_by_role("status").filter(has_text="name").wait_for()
    nothing_ran(page)


def test_a_hostile_text_is_looked_into_as_text(visit: Callable[..., Page]) -> None:
    page = visit("/look-inside")
    page.get_by_text("parameters").first.wait_for()
    page.get_by_label("Text").first.fill(" ".join(HOSTILE[:2]))
    page.get_by_role("button", name="Look", exact=True).first.click()
    page.locator(".attention-view[data-drawn]").wait_for()
    page.locator(".attention-view #text .token").last.hover()
    nothing_ran(page)
    page.get_by_role("tab", name="Layers").click()
    page.get_by_label("Text").last.fill(HOSTILE[0])
    page.get_by_role("button", name="Look", exact=True).last.click()
    page.get_by_text("darker where it is surer").wait_for()
    nothing_ran(page)
