"""Running text whose tokens are coloured, can be hovered for details, and picked with a click or the keyboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import events
from nicegui.element import Element


@dataclass(frozen=True)
class TokenChoice:
    """A token that could stand in the place of another: `share` is the length of its bar, 0 to 1."""

    text: str
    share: float
    value: str


@dataclass(frozen=True)
class TextToken:
    """`title` and `note` are shown on hover, with the `choices`. Without a `colour` neighbours get different ones, unless the
    token `is_plain`.
    """

    text: str
    title: str
    note: str = ""
    colour: str = ""
    is_special: bool = False
    choices: tuple[TokenChoice, ...] = ()
    is_pickable: bool = False
    is_plain: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the element in the browser takes it."""
        choices = [{"text": one.text, "share": one.share, "value": one.value} for one in self.choices]
        return {
            "text": self.text,
            "title": self.title,
            "note": self.note,
            "colour": self.colour,
            "special": self.is_special,
            "choices": choices,
            "pickable": self.is_pickable,
            "plain": self.is_plain,
        }


class TokenText(Element, component="token_text.js"):  # type: ignore[call-arg]
    """Tokens as running text. `on_pick(index, choice)`: a token was picked, or one of its choices."""

    def __init__(
        self,
        tokens: Sequence[TextToken],
        label: str,
        on_pick: Callable[[int, int | None], Any] | None = None,
    ) -> None:
        super().__init__()
        self.props["label"] = label
        self.show(tokens)
        if on_pick is not None:

            def picked(event: events.GenericEventArguments) -> Any:
                return on_pick(event.args["index"], event.args["choice"])

            self.on("pick", picked)

    def show(self, tokens: Sequence[TextToken]) -> None:
        """Show other tokens."""
        self.props["tokens"] = [token.to_json() for token in tokens]
        self.update()

    def change(self, tokens: Sequence[TextToken]) -> None:
        """Show other tokens; of these only those between the common beginning and end travel to the browser."""
        old, new = self.props["tokens"], [token.to_json() for token in tokens]
        n_most = min(len(old), len(new))
        start = next((i for i in range(n_most) if old[i] != new[i]), n_most)
        end = next((i for i in range(n_most - start) if old[-1 - i] != new[-1 - i]), n_most - start)
        if start < max(len(old), len(new)):
            with self.props.suspend_updates():  # what a later update of the element has; it is not sent now
                self.props["tokens"] = new
            self.run_method("change", len(old), start, len(old) - start - end, new[start : len(new) - end])

    def append(self, tokens: Sequence[TextToken]) -> None:
        """Show more tokens behind those that are there, until the next `show`: only the new ones travel to the browser."""
        self.run_method("append", [token.to_json() for token in tokens])
