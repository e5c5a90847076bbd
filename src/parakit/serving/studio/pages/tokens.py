"""The page of tokens: a text in several tokenizers at once, what it counts and costs, and languages compared."""

from __future__ import annotations

import asyncio

from nicegui import ui

from parakit.common.errors import UserError
from parakit.common.formatting import number
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.frame import heading
from parakit.serving.studio.token_views.sentences import SENTENCES
from parakit.serving.studio.token_views.tokenization import (
    LanguageRow,
    ShownToken,
    Tokenization,
    language_rows,
    price_names,
    reading_price,
    special_tokens,
    tokenize,
)
from parakit.serving.studio.token_views.tokenizers import TokenizerSource, tokenizer_sources
from parakit.serving.studio.widgets.tables import text_table
from parakit.serving.studio.widgets.token_text import TextToken, TokenText
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_TEXT, MAX_TOKENIZERS = 200_000, 4
PRICED_TOKENS = 1_000_000
SAMPLE = (
    "Tokens are neither words nor characters: unbelievable, antidisestablishmentarianism, 3.14159265,\n"
    "    indentation, naïve café, 東京, 🦜 and <|im_end|> each cost their own number of them."
)


class _TokensPage:
    """The widgets that change, and what they show."""

    def __init__(self, context: StudioContext) -> None:
        self.context = context
        self.sources: dict[str, TokenizerSource] = {}
        self.loaded: dict[str, Tokenizer] = context.shared.setdefault("tokenizers", {})
        self.cards: dict[str, _TokenizerCard] = {}

    async def build(self) -> None:
        found = await asyncio.to_thread(tokenizer_sources, self.context.root)
        self.sources = {source.name: source for source in found}
        if not self.sources:
            with ui.element("div").classes("studio-empty"):
                ui.label("No tokenizer is below this folder. Build or import a model first.")
            return
        published = [name for name, source in self.sources.items() if source.published]
        chosen = [*(name for name in self.sources if name not in published), *published]
        first = [*chosen[:1], *(published[:1] or chosen[1:2])]  # a large vocabulary takes seconds to read
        with ui.element("section").classes("studio-card studio-stack"):
            self.text = ui.textarea("Text", value=SAMPLE).props(
                f"outlined autogrow maxlength={MAX_TEXT} debounce=250 input-class=studio-mono"
            )
            with ui.element("div").classes("studio-row"):
                self.names = (
                    ui.select(chosen, value=first, label=f"Tokenizers, up to {MAX_TOKENIZERS}", multiple=True)
                    .props(f"outlined dense use-chips max-values={MAX_TOKENIZERS}")
                    .classes("studio-wide")
                )
                self.price = (
                    ui.select(["none", *price_names()], value="none", label="Price list, for reading")
                    .props("outlined dense")
                    .classes("studio-select")
                )
        self.results = ui.element("div").classes("studio-stack q-mt-md").props("aria-live=polite")
        self.languages = ui.element("div").classes("studio-stack q-mt-lg")
        self.text.on_value_change(self.show_text)
        self.price.on_value_change(self.show_text)
        self.names.on_value_change(self.show_all)
        await self.show_all()

    async def show_all(self) -> None:
        await self.show_text()
        await self.show_languages()

    async def tokenizers(self) -> list[tuple[str, Tokenizer]]:
        """The chosen ones, loaded; one that is damaged is reported and left out."""
        found = []
        for name in self.names.value or []:
            try:
                if name not in self.loaded:
                    self.loaded[name] = await asyncio.to_thread(self.sources[name].load)
            except UserError as error:
                ui.notify(error.message, caption=error.hint, type="negative")
            else:
                found.append((name, self.loaded[name]))
        return found

    async def show_text(self) -> None:
        text = (self.text.value or "")[:MAX_TEXT]
        chosen = await self.tokenizers()
        views = [await asyncio.to_thread(tokenize, name, tokenizer, text) for name, tokenizer in chosen]
        if [name for name, _ in chosen] != list(self.cards):
            self.results.clear()
            with self.results:
                self.figures = ui.element("div")
                self.cards = {name: _TokenizerCard(name, tokenizer) for name, tokenizer in chosen}
        self.figures.clear()
        with self.figures:
            if views:
                self._figures(views, text)
        for view in views:
            self.cards[view.figures.name].show(view)

    def _figures(self, views: list[Tokenization], text: str) -> None:
        columns = ["tokenizer", "vocabulary", "tokens", "tokens a word", "bytes a token", "unknown"]
        is_priced = self.price.value != "none"
        if is_priced:
            columns += ["this text", "a million such texts"]
        rows = []
        for view in views:
            figures = view.figures
            row = [figures.name, f"{figures.vocab_size:,}", f"{figures.n_tokens:,}"]
            row += [
                number(figures.tokens_per_word),
                number(figures.bytes_per_token),
                f"{figures.n_unknown:,}",
            ]
            if is_priced:
                usd, _ = reading_price(figures.n_tokens, self.price.value)
                row += [f"${usd:.6f}", f"${usd * 1e6:,.2f}"]
            rows.append(row)
        with ui.element("section").classes("studio-card studio-stack"):
            heading("What it counts")
            text_table(columns, rows, "Figures of the tokenizers")
            note = f"{len(text):,} characters, {len(text.encode(errors='replace')):,} bytes, {len(text.split()):,} words."
            if is_priced:
                _, origin = reading_price(0, self.price.value)
                note += (
                    f" Price of {self.price.value} for reading: {origin}; it counts this tokenizer's tokens."
                )
            ui.label(note).classes("studio-muted studio-small")

    async def show_languages(self) -> None:
        chosen = await self.tokenizers()
        rows = await asyncio.to_thread(language_rows, [tokenizer for _, tokenizer in chosen], SENTENCES)
        self.languages.clear()
        with self.languages:
            if chosen:
                _languages([name for name, _ in chosen], rows)


async def build(context: StudioContext) -> None:
    """Build the page."""
    await _TokensPage(context).build()


class _TokenizerCard:
    """One tokenizer and its tokens of the text, of which a change redraws those that differ."""

    def __init__(self, name: str, tokenizer: Tokenizer) -> None:
        with ui.element("section").classes("studio-card studio-stack"):
            with ui.element("div").classes("studio-row"):
                heading(name, 3)
                self.chips = ui.element("div").classes("studio-row")
            self.tokens = TokenText([], f"Tokens of {name}").classes("studio-mono")
            self.hidden = ui.label("").classes("studio-muted")
            special = special_tokens(tokenizer)
            what = "1 special token" if len(special) == 1 else f"{len(special)} special tokens"
            more = ui.expansion(f"{what}, which no text becomes").classes("studio-small")
            with more, ui.element("div").classes("studio-row"):
                for token, token_id in special[:200]:
                    ui.label(f"{token}  {token_id}").classes("studio-chip studio-mono")

    def show(self, view: Tokenization) -> None:
        """Show the tokens of another text."""
        self.chips.clear()
        with self.chips:
            ui.label(f"{view.figures.n_tokens:,} tokens").classes("studio-chip")
            if view.n_added:
                ui.label(f"+ {view.n_added} special around it").classes("studio-chip")
            if not view.figures.exact:
                ui.label("decoding does not restore this text").classes("studio-chip studio-warn")
        self.tokens.change([_shown(token) for token in view.tokens])
        self.hidden.set_text(f"and {view.n_hidden:,} more tokens" if view.n_hidden else "")
        self.hidden.set_visibility(view.n_hidden > 0)


def _shown(token: ShownToken) -> TextToken:
    note = "special: added by the tokenizer" if token.is_special else f"bytes {token.data}"
    return TextToken(token.text, f"id {token.token_id:,}", note, is_special=token.is_special)


def _languages(names: list[str], rows: list[LanguageRow]) -> None:
    """The sentence in every language: tokens, and how many times as many as in the first."""
    with ui.element("section").classes("studio-card studio-stack"):
        heading("One sentence in eleven languages")
        ui.label(
            "Tokens of the first sentence of the Universal Declaration of Human Rights, and how many times as many as in"
            " English: what a language costs more to read and write, and how much less of it a context window holds."
        ).classes("studio-muted")
        columns = ["language", "bytes", *names]
        table = [
            [
                row.language,
                f"{row.n_bytes}",
                *(f"{n}  ({ratio:.1f}×)" for n, ratio in zip(row.n_tokens, row.ratios, strict=True)),
            ]
            for row in rows
        ]
        text_table(columns, table, "Languages compared")
