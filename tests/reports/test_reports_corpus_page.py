"""The page of a corpus: complete, self-contained, and safe against markup in documents and file names."""

import re
from pathlib import Path

import pytest

from parakit.data.config import TextConfig
from parakit.data.corpus import prepare_corpus
from parakit.reports.corpus_page import (
    corpus_view,
    refresh_corpus_page,
    render_corpus_page,
    write_corpus_page,
)
from tests.sample_text import sentences

MARKUP = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}<b>&.txt").write_text(f"{MARKUP} {i}\n{sentences(i, 10)}\npassword: hunter{i}abc\n")
    (folder / "large.txt").write_text(sentences(99, 900))
    config = TextConfig(paths=(str(folder),), validation_fraction=0.2, test_fraction=0.2)
    return prepare_corpus(config, tmp_path / "corpus")


def test_the_page_warns_escapes_everything_and_shows_no_secret(corpus: Path, tmp_path: Path) -> None:
    text = write_corpus_page(corpus, tmp_path / "page.html").read_text()
    assert "in/large.txt has" in text
    assert "passwords or keys are in the text: password 20" in text
    assert "hunter" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"<script|<img|onerror=[^&]*>\s*<|<b>&\.", text.replace("&lt;", ""))
    assert "default-src 'none'" in text
    assert not re.search(r'(?:src|href)="(?!#)', text)
    for title in ("Sources", "Random pieces", "Personal data and passwords", "Duplicates and repeated lines"):
        assert f"<h2>{title}</h2>" in text


def test_cleaning_is_shown_with_its_samples(corpus: Path) -> None:
    step = {
        "step": "repair_text",
        "parameters": {},
        "n_changed": 3,
        "n_left_out": 1,
        "chars_removed": 12,
        "reasons": {"too <i>short": 1},
        "samples": [
            {"source": "a.txt", "before": "cafÃ©", "after": "café"},
            {"source": "b.txt", "before": MARKUP, "after": None, "reason": "too <i>short"},
        ],
    }
    page = render_corpus_page(corpus_view(corpus) | {"cleaning": [step]}, "c")
    assert "3 changed, 1 left out, 12 characters removed" in page
    assert "café" in page
    assert "too &lt;i&gt;short" in page
    assert "<i>" not in page


def test_a_page_of_the_same_corpus_is_not_written_again(corpus: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    refresh_corpus_page(corpus, page)
    first = page.stat().st_mtime_ns
    refresh_corpus_page(corpus, page)
    assert page.stat().st_mtime_ns == first
    page.write_text("of another corpus")
    refresh_corpus_page(corpus, page)
    assert "<h1>corpus</h1>" in page.read_text()
