"""Tokenizers side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.tokens import Tokenizer
from parakit.tokens.tokenizer.comparison import compare_tokenizers, token_pieces


def test_figures_are_counts_over_counts(tokenizers: dict[str, Tokenizer]) -> None:
    texts = ["the cat sat on a mat", "été 你好 ᚠ"]
    rows = {row.name: row for row in compare_tokenizers(tokenizers, texts)}
    char = rows["char"]
    assert char.n_tokens == sum(map(len, texts))
    assert char.tokens_per_word == pytest.approx(char.n_tokens / 9)
    assert char.bytes_per_token == pytest.approx(sum(len(t.encode()) for t in texts) / char.n_tokens)
    assert char.n_unknown == 1
    assert not char.exact
    assert rows["byte_bpe"].n_unknown == 0
    assert rows["byte_bpe"].exact


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "unigram", "word", "char"])
@given(text=st.text(alphabet="the cat <|user|>été你😀\n 12", max_size=30))
def test_pieces_join_to_the_text(tokenizers: dict[str, Tokenizer], kind: str, text: str) -> None:
    tokenizer = tokenizers[kind]
    pieces = token_pieces(tokenizer, text)
    assert [token_id for token_id, _ in pieces] == tokenizer.encode(text)
    assert "".join(piece for _, piece in pieces) == (text if pieces else "")
