"""Comparison of tokenizers: how many tokens a text has in each, and which characters each token covers.

A token is neither a word nor a character; their number depends on the tokenizer, the language and the text. Words are
separated by white space.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from parakit.tokens.tokenizer.fast_encoding import fix_surrogates
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenizerFigures:
    """Statistics of one tokenizer on the compared texts."""

    name: str
    kind: str
    vocab_size: int
    n_tokens: int
    tokens_per_word: float
    bytes_per_token: float
    n_unknown: int
    exact: bool  # decoding restores every text exactly


def compare_tokenizers(tokenizers: Mapping[str, Tokenizer], texts: Sequence[str]) -> list[TokenizerFigures]:
    """Statistics of each named tokenizer over all `texts` together."""
    texts = [fix_surrogates(text) for text in texts]
    n_words = sum(len(text.split()) for text in texts)
    n_bytes = sum(len(text.encode()) for text in texts)
    figures = []
    for name, tokenizer in tokenizers.items():
        encoded = tokenizer.encode_bulk(texts)
        n_tokens = sum(map(len, encoded))
        unk_id = tokenizer.unk_id
        figures.append(
            TokenizerFigures(
                name=name,
                kind=tokenizer.kind,
                vocab_size=tokenizer.vocab_size,
                n_tokens=n_tokens,
                tokens_per_word=n_tokens / max(n_words, 1),
                bytes_per_token=n_bytes / max(n_tokens, 1),
                n_unknown=0 if unk_id is None else sum(int((ids == unk_id).sum()) for ids in encoded),
                exact=all(
                    tokenizer.decode(ids.tolist()) == text for ids, text in zip(encoded, texts, strict=True)
                ),
            )
        )
    return figures


def unknown_share(tokenizer: Tokenizer, texts: Iterable[str], max_chars: int = 1_000_000) -> float | None:
    """Share of UNK among the tokens of `texts`, of which at most about `max_chars` are read; None without UNK."""
    if tokenizer.unk_id is None:
        return None
    n_tokens = n_unknown = n_chars = 0
    for text in texts:
        token_ids = tokenizer.encode(text[:max_chars])
        n_tokens += len(token_ids)
        n_unknown += token_ids.count(tokenizer.unk_id)
        n_chars += len(text)
        if n_chars >= max_chars:
            break
    return n_unknown / max(n_tokens, 1)


def token_pieces(tokenizer: Tokenizer, text: str) -> list[tuple[int, str]]:
    """Each token's id and the characters of `text` it covers, in order.

    The pieces join to `text`: characters that no token covers (spaces that some kinds drop) belong to the next token, or
    to the last; a token that covers the rest of a character already shown has an empty piece.
    """
    text = fix_surrogates(text)
    token_ids, spans = tokenizer.reference_encoder.spans(text)
    pieces, position = [], 0
    for token_id, (_, end) in zip(token_ids, spans, strict=True):
        pieces.append((token_id, text[position : max(end, position)]))
        position = max(end, position)
    if pieces and position < len(text):
        pieces[-1] = (pieces[-1][0], pieces[-1][1] + text[position:])
    return pieces
