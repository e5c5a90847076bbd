"""Makes the pictures of looking inside, training, data and plans: `python -m tests.serving.studio.screenshots FOLDER`. `make
screenshots` takes those of the other pages too.

FOLDER has what the studio shows: the quickstart build as `primer`, and the imported model that `MODEL` names. A picture shows
the page as a person would leave it; pages at 400 px are those of a telephone. Pictures have at most 256 colors, which keeps
each under 150 kB.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.serving.studio.browsing import (
    GET_BROWSER,
    ROOT,
    Scheme,
    Visits,
    chromium_path,
    run_playwright,
    running_studio,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURES = ROOT / "docs" / "studio"
MODEL = "SmolLM2-135M-Instruct"
LONG = 240_000  # milliseconds for a model of 135M parameters on a busy machine
MAX_BYTES = 150_000


@dataclass(frozen=True)
class Picture:
    """A page, what is done on it before the picture is taken, and how large the window is."""

    name: str
    path: str
    do: Callable[[Page], None]
    width: int = 1280
    height: int = 860
    scheme: Scheme = "light"


def _wait(page: Page, text: str) -> None:
    page.get_by_text(text).first.wait_for(timeout=LONG)


def _choose_model(page: Page, name: str = MODEL) -> None:
    _wait(page, "parameters")
    field = page.get_by_label("Model", exact=True).first
    field.fill(name)
    page.get_by_role("option", name=name).first.click()
    page.wait_for_timeout(500)
    page.get_by_role("status").filter(has_text="parameters").wait_for(timeout=LONG)


def _attention(page: Page) -> None:
    _choose_model(page)
    page.get_by_role("button", name="Look", exact=True).first.click()
    page.locator(".attention-view[data-drawn]").wait_for(timeout=LONG)


def _behaviours(page: Page) -> None:
    _choose_model(page)
    page.get_by_role("tab", name="Behaviours").click()
    card = page.locator("section", has_text="The verb agrees across a distractor")
    card.get_by_role("button", name="Measure").click()
    card.get_by_text("Heads that carry it").wait_for(timeout=LONG)


def _layers(page: Page) -> None:
    _choose_model(page)
    page.get_by_role("tab", name="Layers").click()
    page.get_by_role("button", name="Look", exact=True).last.click()
    _wait(page, "darker where it is surer")


def _words(page: Page) -> None:
    _choose_model(page)
    page.get_by_role("tab", name="Words").click()
    page.get_by_role("button", name="Nearest words").click()
    _wait(page, "principal components, with")


def _compare(page: Page) -> None:
    _choose_model(page, "primer / finetune")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Compare with").fill("primer / pretrain")
    page.get_by_role("option", name="primer / pretrain").first.click()
    page.get_by_role("button", name="Compare the weights").click()
    _wait(page, "The norm of the difference")


def _curves(page: Page) -> None:
    _wait(page, "finished")
    page.locator("canvas").nth(3).wait_for(timeout=LONG)


def _runs(page: Page) -> None:
    _curves(page)
    page.get_by_role("tab", name="Compare").click()
    _wait(page, "What the runs reached")


def _builds(page: Page) -> None:
    page.get_by_role("tab", name="Builds").click()
    _wait(page, "The recipe is valid.")


def _conversations(page: Page) -> None:
    _wait(page, "Row 1")
    page.get_by_label("Set", exact=True).fill("primer / conversations")
    page.get_by_role("option", name="primer / conversations").first.click()
    _wait(page, "The loss counts")


def _plan(page: Page) -> None:
    page.get_by_label("Machine").click()
    page.get_by_role("option", name="h100").first.click()
    page.get_by_role("button", name="What would this size take?").click()
    _wait(page, "Chinchilla")


PICTURE_LIST = (
    Picture("attention", "/look-inside", _attention, height=1500),
    Picture("behaviours", "/look-inside", _behaviours, height=1000, scheme="dark"),
    Picture("layers", "/look-inside", _layers, height=1130),
    Picture("words", "/look-inside", _words, height=1130),
    Picture("compare", "/look-inside", _compare, height=760),
    Picture("training", "/training", _curves, height=1000),
    Picture("training-telephone", "/training", _curves, width=400, height=860, scheme="dark"),
    Picture("runs", "/training", _runs, height=800),
    Picture("builds", "/training", _builds, height=900),
    Picture("data", "/data", _conversations, height=820),
    Picture("plan", "/plan", _plan, height=1050),
    Picture("plan-telephone", "/plan", _plan, width=400, height=860, scheme="dark"),
)


def compressed(png: bytes) -> bytes:
    """A picture with at most 256 colors."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    found = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(found, "PNG", optimize=True)
    return found.getvalue()


def take(visits: Visits, picture: Picture, folder: Path) -> int:
    """Take a picture and return its size in bytes."""
    page = visits.open(picture.path, picture.width, picture.scheme, picture.height)
    page.set_default_timeout(LONG)
    picture.do(page)
    page.wait_for_timeout(1500)
    page.mouse.move(0, 0)
    png = compressed(page.screenshot())
    page.context.close()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{picture.name}.png").write_bytes(png)
    return len(png)


def main(studio: str, *names: str) -> None:
    """Take all pictures, or those that are named."""
    path = chromium_path()
    if path is None:
        raise SystemExit(GET_BROWSER)
    unknown = set(names) - {one.name for one in PICTURE_LIST}
    if unknown:
        raise SystemExit(f"no picture is named {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as logs, run_playwright(path) as browser:
        log = Path(logs) / "studio.log"
        with running_studio(Path(studio).resolve(), log) as url:
            visits = Visits(browser, url)
            for picture in PICTURE_LIST:
                if not names or picture.name in names:
                    n_bytes = take(visits, picture, PICTURES)
                    note = "" if n_bytes <= MAX_BYTES else "  larger than 150 kB"
                    print(f"{picture.name}: {n_bytes:,} bytes{note}", flush=True)
            if visits.console_errors or visits.outside_requests:
                raise SystemExit(f"{visits.console_errors} {visits.outside_requests}")


if __name__ == "__main__":
    main(*sys.argv[1:])
