"""The page of the arena: models side by side on one prompt, blind pairs to vote on, and what the votes come to."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from nicegui import background_tasks, ui

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.data.conversations.conversation import Message
from parakit.evaluation.intervals import Estimate
from parakit.inference.config import SamplingSettings
from parakit.serving.studio.arena.results import ArenaResults, arena_results
from parakit.serving.studio.arena.votes import (
    MAX_RATER,
    QUALITIES,
    BlindPair,
    VoteOutcome,
    VoteStore,
    graded_models,
)
from parakit.serving.studio.chatting.answers import AnswerSource, ServedModelSource
from parakit.serving.studio.chatting.endpoints import EndpointSource
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.frame import current_account, heading, notify_error
from parakit.serving.studio.inventory.model_facts import ModelFacts, generating_models
from parakit.serving.studio.widgets.endpoint_dialog import endpoint_dialog
from parakit.serving.studio.widgets.sampling_panel import SamplingPanel
from parakit.serving.studio.widgets.tables import text_table

MAX_MODELS = 4
_CHOICES: tuple[tuple[VoteOutcome, str, str], ...] = (
    ("a", "A is better", "1"),
    ("b", "B is better", "2"),
    ("tie", "Tie", "3"),
    ("both_bad", "Both bad", "4"),
)


@dataclass
class _Answer:
    """One model's answer while it comes."""

    model: str
    text: str = ""
    note: str = ""


class _ArenaPage:
    """One visitor's page."""

    def __init__(self, context: StudioContext, models: dict[str, ModelFacts]) -> None:
        self.context, self.models = context, models
        self.store = VoteStore(context.studio_dir)
        self.account = current_account()
        self.pair: BlindPair | None = None
        self.task: asyncio.Task[None] | None = None
        self.grades: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self.endpoints: dict[str, EndpointSource] = {}

    # --- layout
    def build(self) -> None:
        if len(self.models) < 2:
            with ui.element("div").classes("studio-empty"):
                ui.label(
                    "The arena compares two models, and fewer are below this folder. Build or import one, or add an endpoint."
                )
        self._setup()
        self.shown = ui.element("div").classes("q-mt-md").props("aria-live=polite")
        self.results = ui.element("section").classes("studio-stack q-mt-lg").props('aria-label="Results"')
        self.show_results()
        ui.context.client.on_disconnect(self.stop)
        ui.keyboard(on_key=self._key, ignore=["input", "select", "textarea"])
        pair_id = ui.context.client.request.query_params.get("pair")
        if pair_id:
            self.open(self.store.pair(pair_id))

    def _setup(self) -> None:
        names = list(self.models)
        with ui.element("section").classes("studio-card studio-stack").props('aria-label="What is compared"'):
            with ui.element("div").classes("studio-row"):
                self.mode = ui.toggle({"blind": "Blind pair", "open": "Side by side"}, value="blind")
                self.mode.props("no-caps unelevated dense toggle-color=primary padding='4px 14px'")
                ui.space()
                self.rater = ui.input("Your name", value="me").props(f"outlined dense maxlength={MAX_RATER}")
                self.rater.classes("arena-rater")
            self.chosen = ui.select(names, value=names[:2], label="Models, two to four", multiple=True)
            self.chosen.props(f"outlined dense use-chips max-values={MAX_MODELS}").classes("full-width")
            ui.button(
                "Add an endpoint", icon="add", on_click=lambda: endpoint_dialog(self._add_endpoint)
            ).props("flat no-caps dense")
            self.prompt = ui.textarea("Prompt").props("outlined autogrow")
            self.prompt.on("keydown.enter.ctrl.prevent", self.compare)
            with ui.element("div").classes("studio-row"):
                self.go = ui.button("Compare", icon="compare_arrows", on_click=self.compare)
                self.go.props("unelevated no-caps")
                self.halt = ui.button("Stop", icon="stop", on_click=self.stop).props(
                    "outline no-caps color=negative"
                )
                self.halt.set_visibility(False)
                again = ui.button("Vote on a pair of others", icon="group", on_click=self.open_waiting)
                again.props("flat no-caps")
            with ui.expansion("Sampling").classes("studio-fold"), ui.element("div").classes("arena-sampling"):
                self.sampling = SamplingPanel(lambda: None)

    def _add_endpoint(self, name: str, source: EndpointSource) -> None:
        self.endpoints[name] = source
        chosen = [*(self.chosen.value or []), name][-MAX_MODELS:]
        self.chosen.set_options([*self.models, *self.endpoints], value=chosen)

    def _source(self, name: str) -> AnswerSource:
        if name in self.endpoints:
            return self.endpoints[name]
        if self.context.service is None:
            raise UserError(
                f"{name}: this studio runs no models", "start it with parakit studio or parakit serve"
            )
        return ServedModelSource(self.context.service, name, self.account)

    # --- answers
    def compare(self) -> None:
        text, models = (self.prompt.value or "").strip(), list(self.chosen.value or [])
        if not text:
            raise UserError("the prompt is empty", "write what the models are to answer")
        if len(models) < 2:
            raise UserError("one model is chosen", "choose two to four")
        if self.task is None:
            is_blind = self.mode.value == "blind"
            self.halt.set_visibility(True)
            self.go.set_enabled(False)
            work = self._compare(text, models, is_blind, self.sampling.values())
            self.task = background_tasks.create(work)

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def _compare(
        self, text: str, models: list[str], is_blind: bool, sampling: SamplingSettings
    ) -> None:
        """All answers at once; a blind pair is shown when both are whole, so that speed does not tell them apart."""
        messages = (Message("user", text),)
        models = _two_of(models, self.store) if is_blind else models
        answers = [_Answer(model) for model in models]
        try:
            if is_blind:
                self._wait_for_pair()
                await asyncio.gather(*(self._fill(one, messages, sampling) for one in answers))
                self._keep_pair(messages, answers)
            else:
                labels = self._columns(answers)
                jobs = (
                    self._fill(one, messages, sampling, label)
                    for one, label in zip(answers, labels, strict=True)
                )
                await asyncio.gather(*jobs)
        except asyncio.CancelledError:
            if is_blind:
                self.shown.clear()
        except Exception as error:
            if not isinstance(error, UserError):
                log(f"studio: a comparison failed: {error!r}")
            with self.shown:
                self.shown.clear()
                notify_error(error)
        finally:
            self.task = None
            self.halt.set_visibility(False)
            self.go.set_enabled(True)

    async def _fill(
        self, one: _Answer, messages: tuple[Message, ...], sampling: SamplingSettings, shown: Any = None
    ) -> None:
        source = self._source(one.model)
        async with contextlib.aclosing(source.answer(messages, sampling)) as parts:
            async for answer in parts:
                one.text = answer.text
                if shown is not None:
                    text, note = shown
                    text.text = answer.text
                    figures = answer.figures
                    note.text = (
                        f"{figures.n_tokens:,} tokens in {figures.seconds:.1f} s" if figures.n_tokens else ""
                    )

    def _columns(self, answers: list[_Answer]) -> list[tuple[ui.label, ui.label]]:
        """A card for each model, and the labels that its answer fills."""
        labels = []
        self.shown.clear()
        with self.shown, ui.element("div").classes("studio-grid"):
            for one in answers:
                with ui.element("article").classes("studio-card studio-stack"):
                    heading(one.model, 3)
                    text = ui.label("").classes("studio-text")
                    labels.append((text, ui.label("").classes("studio-muted studio-small studio-number")))
        return labels

    def _wait_for_pair(self) -> None:
        self.shown.clear()
        with self.shown, ui.element("div").classes("studio-row"):
            ui.spinner(size="md")
            ui.label("Both models answer. The answers are shown together.").classes("studio-muted")

    def _keep_pair(self, messages: tuple[Message, ...], answers: list[_Answer]) -> None:
        first, second = answers
        pair = BlindPair(messages, (first.model, second.model), (first.text.strip(), second.text.strip()))
        self.store.add_pair(pair)
        with self.shown:
            self.open(pair)

    # --- votes
    def open_waiting(self) -> None:
        pair = self.store.waiting_pair((self.rater.value or "").strip())
        if pair is None:
            ui.notify("There is no pair of others that you have not voted on.")
        else:
            self.open(pair)

    def open(self, pair: BlindPair) -> None:
        """Show a pair blind. Its id goes into the address, so that a reload or another tab shows the same pair."""
        self.pair, self.grades = pair, ({}, {})
        ui.run_javascript(f"history.replaceState(null, '', '?pair={pair.id}')")
        order = pair.shown_order((self.rater.value or "").strip())
        self.shown.clear()
        with self.shown, ui.element("div").classes("studio-stack"):
            ui.label(pair.prompt[-1].content).classes("studio-text chat-user")
            with ui.element("div").classes("studio-grid"):
                for name, i, grades in zip("AB", order, self.grades, strict=True):
                    with ui.element("article").classes("studio-card studio-stack"):
                        heading(f"Answer {name}", 3)
                        ui.label(pair.answers[i] or "(no text)").classes("studio-text")
                        _grade_fields(name, grades)
            self.verdict = ui.element("div").classes("studio-row arena-buttons")
            with self.verdict:
                for outcome, label, key in _CHOICES:
                    button = ui.button(label, on_click=lambda one=outcome: self.vote(one))
                    button.props(f"outline no-caps aria-keyshortcuts={key}")
                    with button:
                        ui.tooltip(f"key {key}")

    def vote(self, outcome: VoteOutcome) -> None:
        if self.pair is None:
            return
        pair, rater = self.pair, self.rater.value or ""
        grades = graded_models(pair, rater, self.grades)
        why_skipped = self.store.vote(pair, rater, outcome, grades)
        self.pair = None
        order = pair.shown_order(" ".join(rater.split()))
        self.verdict.clear()
        with self.verdict, ui.element("div").classes("studio-card studio-stack full-width"):
            a, b = (pair.models[i] for i in order)
            ui.label(f"Counted. A is {a}, B is {b}.").classes("text-weight-medium").props("role=status")
            text = f"A row of {self.store.file}"
            ui.label(f"{text}, which alignment skips: {why_skipped}." if why_skipped else f"{text}.").classes(
                "studio-muted studio-small"
            )
        ui.run_javascript("history.replaceState(null, '', location.pathname)")
        self.show_results()

    def _key(self, event: Any) -> None:
        if event.action.keydown and not event.action.repeat and self.pair is not None:
            outcome = next((one for one, _, key in _CHOICES if event.key == key), None)
            if outcome is not None:
                self.vote(outcome)

    # --- results
    def show_results(self) -> None:
        self.results.clear()
        with self.results:
            _results(arena_results(self.store.votes()), str(self.store.file))


async def build(context: StudioContext) -> None:
    """Build the page."""
    _ArenaPage(context, await asyncio.to_thread(generating_models, context)).build()


def _two_of(models: list[str], store: VoteStore) -> list[str]:
    """The two of the chosen models that were compared least often."""
    counts = dict.fromkeys(models, 0)
    for vote in store.votes():
        for model in vote.models:
            if model in counts:
                counts[model] += 1
    return sorted(models, key=lambda model: counts[model])[:2]


def _grade_fields(name: str, grades: dict[str, int]) -> None:
    """One to five for each quality; what is left empty is not counted."""
    with ui.element("div").classes("arena-grades"):
        for quality in QUALITIES:
            ui.label(quality.capitalize()).classes("studio-small studio-muted")

            def changed(event: Any, quality: str = quality) -> None:
                if event.value:
                    grades[quality] = int(event.value)
                else:
                    grades.pop(quality, None)

            rating = ui.toggle([1, 2, 3, 4, 5], clearable=True, on_change=changed)
            rating.props(
                f'dense flat toggle-color=primary padding=xs aria-label="{quality} of answer {name}, 1 to 5"'
            )


def _results(results: ArenaResults, file: str) -> None:
    """Tables of the figures, and the command that learns from them."""
    heading("What the votes come to")
    if not results.n_votes:
        with ui.element("div").classes("studio-empty"):
            ui.label("No votes yet. Each vote becomes a row of a preference file for parakit align.")
        return
    with ui.element("div").classes("studio-grid"):
        with ui.element("div").classes("studio-card studio-stack arena-wide"):
            heading("Ratings", 3)
            if len(results.ratings) > 1:
                ui.label(
                    f"The models form {len(results.ratings)} groups that never met: ratings compare within a group only."
                ).classes("studio-muted studio-small")
            for number, table in enumerate(results.ratings, 1):
                rows = [
                    [
                        one.model,
                        _interval(one.bradley_terry, 0),
                        str(one.wins),
                        str(one.ties),
                        str(one.losses),
                    ]
                    for one in table.ratings
                ]
                name = "Ratings" if len(results.ratings) == 1 else f"Ratings, group {number}"
                text_table(["model", "Bradley–Terry, 95 % interval", "wins", "ties", "losses"], rows, name)
                for note in table.notes:
                    ui.label(note).classes("studio-muted studio-small")
        with ui.element("div").classes("studio-card studio-stack"):
            heading("Votes", 3)
            ties = f"{results.n_votes:,} votes, {results.n_ties:,} of them ties or both bad"
            ui.label(ties)
            if results.first_share is not None:
                ui.label(
                    f"The answer shown as A won {_interval(results.first_share, 2)} of {results.n_decided} decided votes;"
                    " 0.50 is no position bias."
                )
            for one in results.agreements:
                ui.label(
                    f"{one.raters[0]} and {one.raters[1]}: kappa {_interval(one.kappa, 2)}, {one.n_pairs} pairs"
                )
            if not results.agreements:
                ui.label("Agreement needs two raters who voted on the same pair.").classes(
                    "studio-muted studio-small"
                )
        if results.grades:
            with ui.element("div").classes("studio-card studio-stack"):
                heading("Grades, 1 to 5", 3)
                rows = [
                    [model, *(_interval(grades[q], 1) if q in grades else "" for q in QUALITIES)]
                    for model, grades in results.grades.items()
                ]
                text_table(["model", *QUALITIES], rows, "Grades")
    with ui.element("div").classes("studio-card"):
        ui.label("Learn from these votes:").classes("studio-muted studio-small")
        ui.label(f"parakit align MODEL --method dpo --preferences {file} --output FOLDER").classes(
            "studio-mono"
        )


def _interval(value: Estimate, digits: int) -> str:
    return f"{value.value:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"
