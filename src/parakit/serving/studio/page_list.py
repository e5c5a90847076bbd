"""The pages of the studio, in the order of the navigation. A page is a module with `build(context)`, sync or async, which
is imported when the page is opened for the first time.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from parakit.serving.studio.context import StudioContext

PageBuilder = Callable[[StudioContext], Awaitable[None] | None]


@dataclass(frozen=True)
class StudioPage:
    """`icon`: a name of Google's Material icons, which NiceGUI serves. `module`: where `build` is."""

    path: str
    title: str
    icon: str
    module: str
    summary: str

    @property
    def builder(self) -> PageBuilder:
        """The function that builds the page; the import of its module happens here."""
        build: PageBuilder = importlib.import_module(f"parakit.serving.studio.pages.{self.module}").build
        return build


PAGES = (
    StudioPage(
        "/models", "Models", "folder_open", "models", "Models, builds and runs, and how each was made."
    ),
    StudioPage("/chat", "Chat", "chat", "chat", "Talk to a model, and see how likely each token was."),
    StudioPage(
        "/arena", "Arena", "compare_arrows", "arena", "Models side by side, blind votes, and ratings."
    ),
    StudioPage("/tokens", "Tokens", "segment", "tokens", "How tokenizers cut a text, and what it costs."),
    StudioPage(
        "/look-inside",
        "Look inside",
        "visibility",
        "look_inside",
        "What each head attends to, what each layer would predict, and what changes without a head.",
    ),
    StudioPage(
        "/training",
        "Training",
        "show_chart",
        "training",
        "Curves of runs, what differs between them, and builds.",
    ),
    StudioPage(
        "/data",
        "Data",
        "dataset",
        "corpora",
        "Documents, conversations and pairs, what was left out and why, and what the loss counts.",
    ),
    StudioPage(
        "/plan",
        "Plan",
        "calculate",
        "plan",
        "Size, tokens, time, memory, money and expected loss, both ways.",
    ),
)
HOME = PAGES[0]
