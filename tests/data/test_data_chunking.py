"""Cutting loses nothing, keeps its limits, prefers paragraphs, and finds its way back after an insertion."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parakit.data.chunking import chunk

free_text = st.text(alphabet=st.sampled_from("ab .\n\t。é\U0001f600"), max_size=400)


def prose(n_paragraphs: int, seed: int = 0) -> str:
    draws = np.random.default_rng(seed)
    words = [f"w{k}" for k in range(500)]
    return "\n\n".join(
        " ".join(words[k] for k in draws.integers(0, 500, size=draws.integers(10, 60)))
        for _ in range(n_paragraphs)
    )


@given(free_text, st.integers(1, 60))
def test_the_documents_joined_are_the_text_and_none_is_too_long(text: str, max_chars: int) -> None:
    documents = list(chunk([text], max_chars))
    assert "".join(documents) == text
    assert all(0 < len(document) <= max_chars for document in documents)
    if len(text) > max_chars:
        assert all(len(document) >= max(1, max_chars // 4) for document in documents)


@given(st.lists(free_text, max_size=6), st.integers(1, 60))
def test_how_the_text_arrives_does_not_matter(blocks: list[str], max_chars: int) -> None:
    assert list(chunk(blocks, max_chars)) == list(chunk(["".join(blocks)], max_chars))


def test_paragraphs_come_before_lines_sentences_and_spaces() -> None:
    for separator in ("\n\n", "\n", ". ", " ", "。"):
        text = separator.join(f"word{k}" for k in range(2_000))
        documents = list(chunk([text], 500))
        assert all(document.endswith(separator) for document in documents[:-1]), separator
    mixed = "\n\n".join("one. two three\nfour five. six" for _ in range(200))
    assert all(document.endswith("\n\n") for document in list(chunk([mixed], 500))[:-1])


def test_a_text_without_any_boundary_is_cut_at_the_limit() -> None:
    assert [len(document) for document in chunk(["x" * 2_500], 1_000)] == [1_000, 1_000, 500]


def test_an_insertion_early_in_a_text_leaves_later_documents_as_they_were() -> None:
    text = prose(4_000)
    before = list(chunk([text], 5_000))
    after = set(chunk([text[:3_000] + "Something new.\n\nAnd more of it.\n\n" + text[3_000:]], 5_000))
    changed = [k for k, document in enumerate(before) if document not in after]
    assert len(before) > 150
    assert max(changed) < 20


def test_cutting_is_pinned() -> None:
    """A change of these lengths moves every document of every user's corpus."""
    assert [len(document) for document in chunk([prose(60)], 2_000)] == [
        1618,
        955,
        589,
        1592,
        1372,
        1340,
        1173,
        1679,
    ]
