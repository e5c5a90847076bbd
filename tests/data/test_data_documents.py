"""Documents: digests, and bad bytes that are replaced and still count as the raw bytes they were."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from parakit.data.documents import Document, make_document


def test_the_digest_is_the_sha256_of_the_text_and_ignores_the_source() -> None:
    document = Document("café", "a.txt", 5)
    assert document.digest == hashlib.sha256("café".encode()).hexdigest()
    assert document.digest == Document("café", "b.txt", 5).digest


@given(st.binary())
def test_any_bytes_become_text_that_remembers_its_raw_size(raw: bytes) -> None:
    document, n_bad = make_document(raw.decode("utf-8", "surrogateescape"), "x")
    document.text.encode()
    assert "\0" not in document.text
    assert document.n_bytes == len(raw)
    assert n_bad >= raw.count(0)


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_good_text_is_not_touched(text: str) -> None:
    document, n_bad = make_document(text, "x")
    assert (document.text, document.n_bytes, n_bad) == (text, len(text.encode()), 0)
