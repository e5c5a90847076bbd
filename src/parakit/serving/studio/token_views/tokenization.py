"""A text in one tokenizer: its tokens with ids and bytes, what they count, and what they cost.

A special token is shown as what it is and never as text: the text's own characters are encoded with special tokens switched
off, so `<|im_end|>` that somebody typed is several plain tokens, and the table of special tokens is apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parakit.planning.costs import api_bill, known_prices
from parakit.tokens.tokenizer.comparison import TokenizerFigures, compare_tokenizers, token_pieces
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_SHOWN = 4000  # tokens that are drawn; all are counted


@dataclass(frozen=True)
class ShownToken:
    """`text`: the characters that it covers, empty for the later tokens of one character. `data`: the bytes that it stands
    for; of a special token its name. `is_special`: added by the tokenizer, and no part of the text.
    """

    token_id: int
    text: str
    data: str
    is_special: bool = False


@dataclass(frozen=True)
class Tokenization:
    """One text in one tokenizer."""

    figures: TokenizerFigures
    tokens: tuple[ShownToken, ...]
    n_hidden: int
    """Tokens beyond those that are shown."""
    n_added: int
    """Special tokens that the tokenizer puts around a text; not in the figures."""


@dataclass(frozen=True)
class LanguageRow:
    """One text of a comparison, and the tokens that it has in each tokenizer."""

    language: str
    n_bytes: int
    n_tokens: tuple[int, ...]
    ratios: tuple[float, ...]
    """Tokens, relative to the first text's in the same tokenizer."""


def tokenize(name: str, tokenizer: Tokenizer, text: str) -> Tokenization:
    """The tokens of a text and their figures."""
    [figures] = compare_tokenizers({name: tokenizer}, [text])
    before, after = text_boundaries(tokenizer)
    pieces = token_pieces(tokenizer, text)
    shown = [
        *(ShownToken(i, tokenizer.token(i), tokenizer.token(i), True) for i in before),
        *(ShownToken(i, piece, byte_text(tokenizer, i)) for i, piece in pieces[:MAX_SHOWN]),
        *(ShownToken(i, tokenizer.token(i), tokenizer.token(i), True) for i in after),
    ]
    return Tokenization(figures, tuple(shown), max(0, len(pieces) - MAX_SHOWN), len(before) + len(after))


def byte_text(tokenizer: Tokenizer, token_id: int) -> str:
    """The bytes that a token stands for, as hexadecimal pairs; a special token's name."""
    if token_id in tokenizer.control_ids:
        return tokenizer.token(token_id)
    data = tokenizer.token_bytes[token_id]
    return data.hex(" ") if data else tokenizer.token(token_id)


def special_tokens(tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """Names and ids of the tokens that no text becomes, in the order of their ids."""
    return sorted(((tokenizer.token(i), i) for i in tokenizer.control_ids), key=lambda one: one[1])


def language_rows(tokenizers: Sequence[Tokenizer], texts: Sequence[tuple[str, str]]) -> list[LanguageRow]:
    """How many tokens each (language, text) takes in each tokenizer; the same sentence in other words, so that the counts
    can be compared.
    """
    rows: list[LanguageRow] = []
    for language, text in texts:
        counts = tuple(len(tokenizer.encode(text)) for tokenizer in tokenizers)
        first = rows[0].n_tokens if rows else counts
        ratios = tuple(n / max(base, 1) for n, base in zip(counts, first, strict=True))
        rows.append(LanguageRow(language, len(text.encode()), counts, ratios))
    return rows


def price_names() -> list[str]:
    """The price lists that Parakit knows."""
    return list(known_prices().tokens)


def reading_price(n_tokens: int, price_list: str, n_written: int = 0) -> tuple[float, str]:
    """US dollars for a model's reading so many tokens, and writing others, and where the price is from."""
    usd, price = api_bill(price_list, n_tokens, n_written)
    return usd, price.origin()
