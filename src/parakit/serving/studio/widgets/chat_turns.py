"""A turn of a conversation as it is shown: its text or its tokens, its versions, what can be done with it, what it used."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from parakit.common.files import JsonObject
from parakit.common.formatting import percent
from parakit.serving.studio.chatting.conversation_tree import AnswerToken, ConversationTree, ConversationTurn
from parakit.serving.studio.widgets.token_text import TextToken, TokenChoice, TokenText

SECONDS_BETWEEN_UPDATES = 0.05


@dataclass(frozen=True)
class TurnActions:
    """What the buttons of a turn do; each gets the turn's id. `go_on` gets a token's number and an alternative's, too."""

    edit: Callable[[str], Any]
    again: Callable[[str], Any]
    show_version: Callable[[str], Any]
    go_on: Callable[[str, int, int | None], Any]


def show_turn(
    tree: ConversationTree, turn: ConversationTurn, actions: TurnActions, is_coloured: bool, cost: str
) -> None:
    """One turn, as an article."""
    article = ui.element("article").classes(f"chat-turn chat-{turn.role}")
    article.props["aria-label"] = "You" if turn.role == "user" else "Answer"
    with article:
        if turn.role == "assistant":
            with ui.element("div").classes("chat-head"):
                ui.label(str(turn.figures.get("model", "Answer"))).classes("text-weight-medium")
                _versions(tree, turn, actions)
            answer_text(turn, actions, is_coloured)
        else:
            ui.label(turn.content).classes("studio-text")
        with ui.element("div").classes("chat-foot"):
            if turn.role == "assistant":
                for part in figure_texts(turn.figures):
                    ui.label(part)
                if cost:
                    ui.label(cost)
                _button("refresh", "Answer again", lambda: actions.again(turn.id))
            else:
                _versions(tree, turn, actions)
                _button("edit", "Edit", lambda: actions.edit(turn.id))


def answer_text(turn: ConversationTurn, actions: TurnActions | None, is_coloured: bool) -> None:
    """The tokens of an answer, or its text where they are not known."""
    if not turn.tokens:
        if turn.reasoning:
            with ui.expansion("Reasoning").classes("studio-fold studio-muted"):
                ui.label(turn.reasoning).classes("studio-text")
        ui.label(turn.content).classes("studio-text")
        return
    n = turn.figures.get("n_reasoning_tokens", 0)

    def go_on(index: int, choice: int | None) -> Any:
        return actions.go_on(turn.id, index, choice) if actions else None

    if n:
        reasoning_fold(text_tokens(turn.tokens[:n], is_coloured, actions is not None), go_on)
    tokens = text_tokens(turn.tokens[n:], is_coloured, actions is not None)
    TokenText(tokens, "Answer, token by token", lambda index, choice: go_on(n + index, choice))


def reasoning_fold(
    tokens: Sequence[TextToken], on_pick: Callable[[int, int | None], Any] | None = None
) -> tuple[ui.expansion, TokenText]:
    """The tokens of reasoning before an answer, folded."""
    with ui.expansion("Reasoning").classes("studio-fold studio-muted full-width") as fold:
        text = TokenText(tokens, "Reasoning, token by token", on_pick)
    return fold, text


class LiveAnswer:
    """An answer while it comes: new tokens are sent to the browser a few times a second."""

    def __init__(self, name: str, is_coloured: bool) -> None:
        self.is_coloured, self.n_shown, self.last = is_coloured, 0, 0.0
        with ui.element("article").classes("chat-turn chat-assistant").props('aria-label="Answer"'):
            with ui.element("div").classes("chat-head"):
                ui.label(name).classes("text-weight-medium")
                ui.spinner("dots", size="1.4em")
            self.fold, self.reasoning = reasoning_fold([])
            self.fold.set_visibility(False)
            self.tokens = TokenText([], "Answer, token by token")
            self.text = ui.label("").classes("studio-text")

    def show(self, turn: ConversationTurn) -> None:
        """What has come since."""
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_UPDATES:
            return
        self.last = now
        if turn.tokens:
            n_reasoning = turn.figures.get("n_reasoning_tokens", 0)
            if self.n_shown < n_reasoning:
                self.fold.set_visibility(True)
                self.reasoning.append(
                    text_tokens(turn.tokens[self.n_shown : n_reasoning], self.is_coloured, False)
                )
                self.n_shown = n_reasoning
            self.tokens.append(text_tokens(turn.tokens[self.n_shown :], self.is_coloured, False))
            self.n_shown = len(turn.tokens)
        else:
            self.text.text = turn.content


def text_tokens(
    tokens: Sequence[AnswerToken], is_coloured: bool, is_pickable: bool = True
) -> list[TextToken]:
    """Tokens of an answer with their probabilities; those without text, such as the end, are left out at the end."""
    shown = list(tokens)
    while shown and not shown[-1].text:
        shown.pop()
    return [_text_token(token, is_coloured, is_pickable) for token in shown]


def _text_token(token: AnswerToken, is_coloured: bool, is_pickable: bool) -> TextToken:
    title, colour = f"id {token.token_id:,}", ""
    if token.log_probability is not None:
        probability = math.exp(token.log_probability)
        title = f"{percent(probability)}, id {token.token_id:,}"
        colour = probability_colour(probability) if is_coloured else ""
    choices = tuple(
        TokenChoice(text, math.exp(log), percent(math.exp(log))) for _, text, log in token.alternatives
    )
    note = "The likeliest tokens here; choose one to go on from it." if choices and is_pickable else ""
    return TextToken(token.text, title, note, colour, False, choices, is_pickable, is_plain=not colour)


def probability_colour(probability: float) -> str:
    """The background of a token: the less likely it was, the stronger; none from 90 % on."""
    strength = round(70 * (1 - probability))
    return "" if probability >= 0.9 else f"color-mix(in srgb, var(--warm) {strength}%, transparent)"


def figure_texts(figures: JsonObject) -> list[str]:
    """What an answer used, in short pieces."""
    if not figures:
        return []
    parts = []
    if prompt := figures.get("n_prompt_tokens"):
        cached = figures.get("n_cached_tokens", 0)
        parts.append(f"read {prompt:,} tokens" + (f", {cached:,} of them from the cache" if cached else ""))
    n_tokens, seconds = figures.get("n_tokens", 0), figures.get("seconds", 0.0)
    if n_tokens:
        parts.append(f"wrote {n_tokens:,}" + (f", {n_tokens / seconds:.0f} a second" if seconds else ""))
    ends = {"length": "stopped at the limit", "interrupted": "stopped by you"}
    if reason := ends.get(str(figures.get("finish_reason"))):
        parts.append(reason)
    if dropped := figures.get("n_dropped_messages"):
        parts.append(f"the oldest {dropped} messages were left out")
    return parts


def _versions(tree: ConversationTree, turn: ConversationTurn, actions: TurnActions) -> None:
    versions = tree.versions(turn.id)
    if len(versions) < 2:
        return
    at = versions.index(turn.id)
    _button("chevron_left", "Version before", lambda: actions.show_version(versions[at - 1]), is_off=at == 0)
    ui.label(f"{at + 1} of {len(versions)}")
    last = at == len(versions) - 1
    _button(
        "chevron_right",
        "Version after",
        lambda: actions.show_version(versions[min(at + 1, len(versions) - 1)]),
        is_off=last,
    )


def _button(icon: str, label: str, on_click: Callable[[], Any], is_off: bool = False) -> None:
    button = ui.button(icon=icon, on_click=on_click).props(f'flat round dense size=sm aria-label="{label}"')
    button.set_enabled(not is_off)
    with button:
        ui.tooltip(label)
