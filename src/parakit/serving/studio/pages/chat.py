"""The page of chat: conversations with served models and endpoints; every token with its probability, every turn with its
versions.
"""

from __future__ import annotations

import asyncio
import contextlib

from nicegui import background_tasks, ui

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.inference.config import SamplingSettings
from parakit.serving.studio.chatting.answers import AnswerSource, ServedModelSource
from parakit.serving.studio.chatting.charts import distribution_options
from parakit.serving.studio.chatting.conversation_store import ConversationStore
from parakit.serving.studio.chatting.conversation_tree import AnswerToken, ConversationTree, ConversationTurn
from parakit.serving.studio.chatting.endpoints import EndpointSource
from parakit.serving.studio.chatting.presets import answer_price
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.frame import current_account, heading, notify_error
from parakit.serving.studio.inventory.model_facts import ModelFacts, generating_models
from parakit.serving.studio.token_views.tokenization import price_names
from parakit.serving.studio.widgets.chat_turns import LiveAnswer, TurnActions, show_turn
from parakit.serving.studio.widgets.endpoint_dialog import endpoint_dialog
from parakit.serving.studio.widgets.sampling_panel import SamplingPanel

MAX_LISTED = 50
ENDPOINT = "another endpoint …"


class _ChatPage:
    """One visitor's page: the conversation, the source of answers, and the widgets."""

    def __init__(self, context: StudioContext, models: dict[str, ModelFacts]) -> None:
        self.context, self.models = context, models
        self.store = ConversationStore(context.studio_dir)
        self.tree = ConversationTree()
        self.endpoints: dict[str, EndpointSource] = {}
        self.task: asyncio.Task[None] | None = None
        self.account = current_account()
        self.actions = TurnActions(self.edit, self.answer_again, self.show_version, self.go_on)

    # --- layout
    def build(self) -> None:
        with ui.element("div").classes("studio-two"):
            with ui.element("div").classes("studio-stack"):
                self._model_row()
                self.turns = ui.element("div").classes("chat-turns")
                self.turns.props('aria-live=polite aria-label="Conversation" role=log')
                self._composer()
            with ui.element("aside").classes("studio-stack studio-side").props('aria-label="Settings"'):
                self._side()
        ui.context.client.on_disconnect(self.stop)
        self.show()

    def _model_row(self) -> None:
        with ui.element("div").classes("studio-row"):
            options = [*self.models, ENDPOINT]
            wanted = ui.context.client.request.query_params.get("model")
            first = wanted if wanted in self.models else options[0]
            self.model = ui.select(options, value=first, label="Model", on_change=self._choose_model)
            self.model.props("outlined dense options-dense").classes("studio-wide")
            ui.button("New chat", icon="add", on_click=self.start_new).props("outline no-caps")

    def _composer(self) -> None:
        with ui.element("div").classes("chat-composer"):
            self.draft = ui.textarea(placeholder="Message. Enter sends, Shift+Enter breaks the line.")
            self.draft.props('outlined autogrow aria-label="Message" input-style="max-height: 220px"')
            self.draft.on("keydown.enter.exact.prevent", self.send)
            self.draft.on("keydown.escape", self.stop)
            self.draft.on("update:model-value", self._show_next_tokens, throttle=0.8, leading_events=False)
            with self.draft.add_slot("append"):
                self.send_button = ui.button(icon="arrow_upward", on_click=self.send)
                self.send_button.props('round unelevated dense aria-label="Send"')
                self.stop_button = ui.button(icon="stop", on_click=self.stop)
                self.stop_button.props('round unelevated dense color=negative aria-label="Stop"')
                self.stop_button.set_visibility(False)

    def _side(self) -> None:
        with ui.expansion("Sampling", value=True).classes("studio-card studio-fold"):
            self.sampling = SamplingPanel(lambda: None)
        with ui.expansion("Next token", value=True).classes("studio-card studio-fold"):
            self.next_note = ui.label(
                "What the model would write next, at temperature 0, 0.7 and 1.2: it appears once there is a message."
            ).classes("studio-muted studio-small")
            # one chart for all views: NiceGUI fails where one is removed while it still loads
            self.chart = (
                ui.echart({})
                .classes("chat-chart")
                .props('role=img aria-label="Probabilities of the next token at three temperatures"')
            )
            self.chart.set_visibility(False)
        with ui.expansion("Context and cost", value=True).classes("studio-card studio-fold"):
            self.meter = ui.element("div").classes("studio-stack")
            self.price = ui.select(["none", *price_names()], value="none", label="Price list")
            self.price.props("outlined dense").classes("full-width q-mt-sm").on_value_change(self.show)
        with ui.expansion("System prompt").classes("studio-card studio-fold"):
            self.system = ui.textarea(value="").props('outlined autogrow aria-label="System prompt"')
        with (
            ui.expansion("View and files").classes("studio-card studio-fold"),
            ui.element("div").classes("studio-stack"),
        ):
            self.is_coloured = ui.switch("Colour tokens by probability", value=True, on_change=self.show)
            with ui.element("div").classes("studio-row"):
                ui.button("Export as tuning data", icon="download", on_click=self.export).props(
                    "outline no-caps dense"
                )
            self.saved = ui.element("div").classes("chat-list")

    # --- showing
    def show(self) -> None:
        """Everything that depends on the conversation."""
        self.turns.clear()
        path = self.tree.path()
        with self.turns:
            if not path:
                with ui.element("div").classes("studio-empty"):
                    ui.label(
                        "No messages yet." if self.models else "No model below this folder generates text."
                    )
            for turn in path:
                show_turn(self.tree, turn, self.actions, bool(self.is_coloured.value), self._cost(turn))
        self._show_meter(path)
        self._show_saved()
        self.system.value = self.tree.system or self.system.value

    def _cost(self, turn: ConversationTurn) -> str:
        if self.price.value == "none" or not turn.figures:
            return ""
        figures = turn.figures
        usd = answer_price(figures.get("n_prompt_tokens", 0), figures.get("n_tokens", 0), self.price.value)
        return f"${usd:.6f}"

    def _show_meter(self, path: list[ConversationTurn]) -> None:
        answers = [turn.figures for turn in path if turn.figures]
        self.meter.clear()
        with self.meter:
            window = answers[-1].get("context_window", 0) if answers else self._window()
            used = answers[-1].get("n_prompt_tokens", 0) + answers[-1].get("n_tokens", 0) if answers else 0
            if window:
                share = min(1.0, used / window)
                bar = ui.element("div").classes("studio-meter")
                bar.props(
                    f'role=meter aria-valuenow={used} aria-valuemin=0 aria-valuemax={window} aria-label="Context"'
                )
                with bar:
                    ui.element("div").style(f"width: {100 * share:.1f}%")
                ui.label(f"{used:,} of {window:,} tokens of context").classes("studio-small studio-number")
            read = sum(figures.get("n_prompt_tokens", 0) for figures in answers)
            written = sum(figures.get("n_tokens", 0) for figures in answers)
            text = f"this branch: {read:,} tokens read, {written:,} written"
            if self.price.value != "none":
                text += f", ${answer_price(read, written, self.price.value):.6f}"
            ui.label(text).classes("studio-small studio-muted studio-number")

    def _window(self) -> int:
        facts = self.models.get(self.model.value)
        return facts.max_seq_len if facts else 0

    def _show_saved(self) -> None:
        self.saved.clear()
        with self.saved:
            for entry in self.store.list(MAX_LISTED):
                with ui.element("div").classes("row no-wrap items-center full-width"):
                    opener = ui.button(entry.title or "(empty)", on_click=lambda one=entry.id: self.open(one))
                    opener.props("flat dense no-caps color=primary").classes("chat-entry")
                    remove = ui.button(icon="delete", on_click=lambda one=entry.id: self.delete(one))
                    remove.props('flat round dense size=sm aria-label="Delete this conversation"')

    # --- conversations
    def start_new(self) -> None:
        self.stop()
        self.tree = ConversationTree(system=self.system.value or "")
        self.show()

    def open(self, conversation_id: str) -> None:
        self.stop()
        self.tree = self.store.load(conversation_id)
        self.system.value = self.tree.system
        self.show()

    def delete(self, conversation_id: str) -> None:
        self.store.delete(conversation_id)
        self._show_saved()

    def export(self) -> None:
        file, n = self.store.export()
        ui.notify(
            f"{n} conversations in {file}",
            caption=f"parakit finetune MODEL --conversations {file} --output FOLDER",
            timeout=15_000,
            close_button="Close",
        )

    def show_version(self, turn_id: str) -> None:
        self.tree.show_version(turn_id)
        self.show()

    def edit(self, turn_id: str) -> None:
        """A dialog with the message; saving makes another version and answers it."""
        with ui.dialog(value=True) as dialog, ui.card().classes("studio-dialog"):
            heading("Edit the message", 2)
            field = ui.textarea(value=self.tree.turns[turn_id].content).props("outlined autogrow autofocus")
            field.classes("full-width")
            with ui.element("div").classes("studio-row"):

                def save() -> None:
                    dialog.close()
                    if (field.value or "").strip():
                        self.tree.edit(turn_id, field.value.strip())
                        self._start_answer()

                ui.button("Save and answer", on_click=save).props("unelevated no-caps")
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")

    # --- answering
    def send(self) -> None:
        text = (self.draft.value or "").strip()
        if text and self.task is None:
            self._source(), self.sampling.values()  # where one is wrong, the message stays in its field
            self.draft.value = ""
            self.tree.add("user", text)
            self._start_answer()

    def answer_again(self, turn_id: str) -> None:
        if self.task is None:
            self.tree.head = self.tree.turns[turn_id].parent
            self._start_answer()

    def go_on(self, turn_id: str, index: int, choice: int | None) -> None:
        """Another version of an answer: the same up to this token, then an alternative, or what is drawn after it."""
        turn = self.tree.turns[turn_id]
        kept = turn.tokens[: index + (choice is None)]
        if choice is not None:
            token_id, text, log_probability = turn.tokens[index].alternatives[choice]
            kept = [*kept, AnswerToken(token_id, text, log_probability, turn.tokens[index].alternatives)]
        if self.task is None and kept:
            self.tree.head = turn.parent
            self._start_answer(kept)

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def _start_answer(self, kept: list[AnswerToken] | None = None) -> None:
        self.tree.system = self.system.value or ""
        sampling = self.sampling.values()
        source = self._source()
        self._set_busy(True)
        self.task = background_tasks.create(self._answer(source, sampling, kept or []))

    def _source(self) -> AnswerSource:
        name = self.model.value
        if name in self.endpoints:
            return self.endpoints[name]
        if self.context.service is None or name not in self.models:
            raise UserError("no model is chosen", "choose one above the conversation")
        return ServedModelSource(self.context.service, name, self.account)

    async def _answer(
        self, source: AnswerSource, sampling: SamplingSettings, kept: list[AnswerToken]
    ) -> None:
        """Stream an answer into the page; what there is when it is stopped stays."""
        messages, parent = self.tree.messages(), self.tree.head
        self.show()
        turn: ConversationTurn | None = None
        try:
            with self.turns:
                live = LiveAnswer(source.name, bool(self.is_coloured.value))
            async with contextlib.aclosing(
                source.answer(messages, sampling, [t.token_id for t in kept])
            ) as parts:
                async for answer in parts:
                    if turn is None:
                        turn = self.tree.add("assistant", "", parent)
                    turn.content, turn.figures = answer.text, answer.figures.to_json()
                    turn.reasoning = answer.reasoning
                    turn.tokens = [*kept, *answer.tokens[len(kept) :]]
                    live.show(turn)
        except UserError as error:
            self._report(error)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            log(f"studio: an answer failed: {error!r}")
            self._report(error)
        finally:
            self.task = None
            await self._finish()

    async def _finish(self) -> None:
        await asyncio.to_thread(self.store.save, self.tree)
        if self.turns.is_deleted:  # the visitor is gone
            return
        with self.turns:
            self._set_busy(False)
            self.show()
            await self._show_next_tokens()

    def _report(self, error: Exception) -> None:
        with self.turns:
            notify_error(error)

    def _set_busy(self, is_busy: bool) -> None:
        self.send_button.set_visibility(not is_busy)
        self.stop_button.set_visibility(is_busy)

    # --- the next token
    async def _show_next_tokens(self) -> None:
        """Of the answer to what is written so far; a model that is not in memory is not loaded for it."""
        service, name = self.context.service, self.model.value
        draft = (self.draft.value or "").strip()
        path = self.tree.path()
        if service is None or self.task is not None or (not draft and not path):
            return
        if name not in {one.name for one in service.registry.loaded}:
            return
        tree = ConversationTree(
            system=self.system.value or "", turns=dict(self.tree.turns), head=self.tree.head
        )
        if draft:
            tree.add("user", draft)
        elif path[-1].role == "assistant":
            tree.head = path[-1].parent
        view = await ServedModelSource(service, name, self.account).next_tokens(tree.messages())
        self.next_note.text = (
            f"First token of the answer to {'what you write' if draft else 'the last message'};"
            f" the tokens behind these bars have {100 * view.covered:.1f} % of the probability."
        )
        self.chart.options.clear()
        self.chart.options.update(distribution_options(view))
        self.chart.update()
        self.chart.set_visibility(True)

    # --- endpoints
    def _choose_model(self) -> None:
        if self.model.value == ENDPOINT:
            self.model.value = next(iter(self.models), ENDPOINT)
            endpoint_dialog(self._add_endpoint)

    def _add_endpoint(self, name: str, source: EndpointSource) -> None:
        self.endpoints[name] = source
        self.model.set_options([*self.models, *self.endpoints, ENDPOINT], value=name)


async def build(context: StudioContext) -> None:
    """Build the page."""
    _ChatPage(context, await asyncio.to_thread(generating_models, context)).build()
