"""An index finds what BM25, a comparison of all vectors and reciprocal ranks find, and follows its documents."""

from __future__ import annotations

import math
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from parakit.assistants.retrieval import vectors as vector_search
from parakit.assistants.retrieval.citations import cite
from parakit.assistants.retrieval.config import IndexConfig, SearchConfig
from parakit.assistants.retrieval.encoders import PassageEncoder
from parakit.assistants.retrieval.indexing import index_documents
from parakit.assistants.retrieval.search import DocumentIndex
from parakit.assistants.retrieval.words import singular, top
from parakit.common.errors import UserError

TEXTS = {
    "tea.md": "# Tea\n\nGreen tea is brewed at eighty degrees. Black tea takes boiling water.\n",
    "boats.md": "# Boats\n\nThe ferry leaves at nine. Boats need a harbour and water.\n",
    "birds.txt": "A heron stands in shallow water. Herons eat fish and frogs.\n",
}


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in (TEXTS | texts).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def indexed(folder: Path, out: Path, encoder: object = "none", **settings: object) -> DocumentIndex:
    index_documents(IndexConfig(paths=(str(folder),), encoder=str(encoder), **settings), out, device="cpu")
    return DocumentIndex(out, device="cpu")


def sources(index: DocumentIndex, query: str, **settings: object) -> list[str]:
    return [hit.passage.source for hit in index.search(query, SearchConfig(**settings)).hits]


def test_words_score_as_bm25_does(tmp_path):
    """Against the formula of Robertson et al. with Lucene's weights, in float64."""
    index = indexed(write(tmp_path / "docs"), tmp_path / "index")
    bodies = [f"{one.heading}\n{one.text}" if one.heading else one.text for one in index.passages()]
    counts = [
        [singular(word) for word in re.findall(r"\w\w+", body.lower()) if word not in _stop_words()]
        for body in bodies
    ]
    query = ["heron", "water"]
    mean = sum(map(len, counts)) / len(counts)
    expected = []
    for words in counts:
        score = 0.0
        for word in query:
            n = sum(word in other for other in counts)
            weight = math.log(1 + (len(counts) - n + 0.5) / (n + 0.5))
            frequency = words.count(word)
            score += weight * frequency / (frequency + 1.5 * (0.25 + 0.75 * len(words) / mean))
        expected.append(score)
    found = {hit.passage.id: hit.words for hit in index.search("herons water", SearchConfig(by="words")).hits}
    by_id = dict(zip([one.id for one in index.passages()], expected, strict=True))
    assert found == pytest.approx({one: score for one, score in by_id.items() if score}, rel=1e-5)


def _stop_words() -> set[str]:
    from bm25s.stopwords import STOPWORDS_EN

    return set(STOPWORDS_EN)


def test_vectors_find_what_a_comparison_of_all_finds(tmp_path, published_encoder):
    index = indexed(write(tmp_path / "docs"), tmp_path / "index", published_encoder)
    encoder = PassageEncoder.load(published_encoder, "cpu")
    bodies = [f"{one.heading}\n{one.text}" if one.heading else one.text for one in index.passages()]
    cosines = encoder.documents(bodies).astype(np.float64) @ encoder.query("a heron").astype(np.float64)
    hits = index.search("a heron", SearchConfig(by="vectors")).hits
    ids = [one.id for one in index.passages()]
    assert [hit.passage.id for hit in hits] == [ids[i] for i in np.argsort(-cosines)]
    assert [hit.vectors for hit in hits] == pytest.approx(sorted(cosines, reverse=True), abs=1e-5)


def test_fusion_adds_reciprocal_ranks(tmp_path, published_encoder):
    index = indexed(write(tmp_path / "docs"), tmp_path / "index", published_encoder)
    ranks = {}
    for by in ("words", "vectors"):
        for rank, hit in enumerate(index.search("water for the heron", SearchConfig(by=by)).hits, 1):
            ranks.setdefault(hit.passage.id, []).append(rank)
    expected = {one: sum(1 / (60 + rank) for rank in found) for one, found in ranks.items()}
    hits = index.search("water for the heron").hits
    assert {hit.passage.id: hit.score for hit in hits} == pytest.approx(expected)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_graph_finds_the_nearest_too(tmp_path, published_encoder, monkeypatch):
    index = indexed(write(tmp_path / "docs"), tmp_path / "index", published_encoder)
    exact = sources(index, "a heron", by="vectors")
    monkeypatch.setattr(vector_search, "EXACT", 0)
    assert sources(index, "a heron", by="vectors") == exact


def test_added_changed_and_removed_documents_are_found_or_gone_at_the_next_search(
    tmp_path, published_encoder
):
    docs = write(tmp_path / "docs")
    index = indexed(docs, tmp_path / "index", published_encoder)
    before = {one.source: one.id for one in index.passages()}
    (docs / "new.txt").write_text("The password of the archive is quokka.\n", encoding="utf-8")
    (docs / "tea.md").write_text("# Tea\n\nWhite tea is withered in the sun.\n", encoding="utf-8")
    (docs / "boats.md").unlink()
    report = index_documents(IndexConfig(), tmp_path / "index", device="cpu")
    assert report["files"] == {"added": 1, "changed": 1, "removed": 1, "unchanged": 1, "unreadable": 0}
    assert report["vectors_computed"] == 2
    assert sources(index, "quokka", by="words") == ["docs/new.txt"]
    assert sources(index, "withered", by="words") == ["docs/tea.md"]
    assert sources(index, "ferry", by="words") == sources(index, "boiling", by="words") == []
    assert "docs/boats.md" not in sources(index, "a ferry")
    after = {one.source: one.id for one in index.passages()}
    assert after["docs/birds.txt"] == before["docs/birds.txt"]
    assert after["docs/tea.md"] not in before.values()


def test_an_index_that_is_up_to_date_is_not_written_again(tmp_path):
    docs = write(tmp_path / "docs")
    index = indexed(docs, tmp_path / "index")
    digest = index.lineage["digest"]
    assert not index_documents(IndexConfig(), tmp_path / "index")["rebuilt"]
    assert DocumentIndex(tmp_path / "index").lineage["digest"] == digest
    (docs / "tea.md").touch()
    assert not index_documents(IndexConfig(), tmp_path / "index")["rebuilt"]


def test_an_updated_index_equals_a_new_one(tmp_path):
    docs = write(tmp_path / "docs")
    index = indexed(docs, tmp_path / "index")
    (docs / "tea.md").write_text("Mint tea.\n", encoding="utf-8")
    (docs / "a.txt").write_text("A first text.\n", encoding="utf-8")
    index_documents(IndexConfig(), tmp_path / "index")
    fresh = indexed(docs, tmp_path / "fresh")
    index.refresh()
    assert index.lineage["result"]["content"] == fresh.lineage["result"]["content"]
    for query in ("tea", "water", "text"):
        assert sources(index, query) == sources(fresh, query)


def test_settings_of_the_index_stay_and_others_read_everything_again(tmp_path):
    docs = write(tmp_path / "docs", **{"long.txt": "A sentence of ten words stands here, more or less. " * 9})
    index = indexed(docs, tmp_path / "index", passage_chars=400)
    n = len(index)
    index_documents(IndexConfig(passage_chars=150, overlap_chars=0), tmp_path / "index")
    index.refresh()
    assert len(index) > n
    assert index.lineage["config"]["paths"] == [str(docs)]


def test_equal_passages_are_shown_once(tmp_path):
    index = indexed(write(tmp_path / "docs", **{"copy.txt": TEXTS["birds.txt"]}), tmp_path / "index")
    assert sources(index, "heron") == ["docs/birds.txt"]


def test_a_search_without_a_source_does_not_see_it(tmp_path, published_encoder):
    index = indexed(write(tmp_path / "docs"), tmp_path / "index", published_encoder)
    found = index.search("heron in water", without={"docs/birds.txt"})
    assert {hit.passage.source for hit in found.hits} == {"docs/tea.md", "docs/boats.md"}


def test_an_interrupted_run_loses_no_vectors_and_doubles_nothing(tmp_path, published_encoder, monkeypatch):
    docs, out = write(tmp_path / "docs"), tmp_path / "index"
    monkeypatch.setattr(vector_search, "AT_ONCE", 1)
    compute, n_calls = PassageEncoder.documents, 0

    def killed(self, texts):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        return compute(self, texts)

    monkeypatch.setattr(PassageEncoder, "documents", killed)
    with pytest.raises(KeyboardInterrupt):
        indexed(docs, out, published_encoder)
    assert not out.exists()
    monkeypatch.setattr(PassageEncoder, "documents", compute)
    report = index_documents(
        IndexConfig(paths=(str(docs),), encoder=str(published_encoder)), out, device="cpu"
    )
    assert report["vectors_computed"] == 1
    assert len(DocumentIndex(out)) == report["n_passages"] == 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".index")] == []


def test_a_file_that_cannot_be_read_keeps_its_passages(tmp_path, monkeypatch):
    docs = write(tmp_path / "docs")
    index = indexed(docs, tmp_path / "index")
    (docs / "tea.md").write_text("# Tea\n\nOolong.\n", encoding="utf-8")
    from parakit.assistants.retrieval import changes
    from parakit.data.readers.files import read_file

    def unreadable(file, config, report):
        if file.source == "docs/tea.md":
            report.skip(file.source, "cannot be read", "Input/output error")
            return
        yield from read_file(file, config, report)

    monkeypatch.setattr(changes, "read_file", unreadable)
    report = index_documents(IndexConfig(), tmp_path / "index")
    assert report["files"]["unreadable"] == 1
    assert sources(index, "boiling") == ["docs/tea.md"]
    monkeypatch.setattr(changes, "read_file", read_file)
    index_documents(IndexConfig(), tmp_path / "index")
    assert sources(index, "boiling") == []
    assert sources(index, "oolong") == ["docs/tea.md"]


def test_what_is_wrong_is_named(tmp_path, published_encoder, published_decoder):
    docs, out = write(tmp_path / "docs"), tmp_path / "index"
    with pytest.raises(UserError, match="no documents were given"):
        index_documents(IndexConfig(encoder="none"), out)
    index = indexed(docs, out)
    with pytest.raises(UserError, match="has no vectors"):
        index.search("tea", SearchConfig(by="vectors"))
    with pytest.raises(UserError, match="question is empty"):
        index.search("  ")
    with pytest.raises(UserError, match="a reranker scores pairs"):
        index.search("tea", SearchConfig(reranker=str(published_decoder)))
    with pytest.raises(UserError, match=r"which .*other would replace"):
        index_documents(IndexConfig(paths=(str(write(tmp_path / "other")),)), out)
    with pytest.raises(UserError, match="compares documents with each other"):
        index_documents(IndexConfig.parse({"cleaning": [{"step": "near_duplicates"}]}), out)
    with pytest.raises(UserError, match="over half of passage_chars"):
        IndexConfig.parse({"passage_chars": 100, "overlap_chars": 60})
    for path in docs.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no document is left, and the index has 3 passages"):
        index_documents(IndexConfig(), out)
    assert sources(index, "tea")
    with pytest.raises(UserError, match="not a Parakit artifact"):
        DocumentIndex(docs)


def test_an_index_of_another_encoder_names_both(tmp_path, published_encoder, published_decoder):
    index = indexed(write(tmp_path / "docs"), tmp_path / "index", published_encoder)
    other = DocumentIndex(tmp_path / "index", encoder=published_decoder, device="cpu")
    with pytest.raises(UserError, match=r"was made with the encoder .*tiny-bert.* is another") as raised:
        other.search("tea")
    assert str(published_decoder) in str(raised.value)
    gone = DocumentIndex(tmp_path / "index", encoder=tmp_path / "none", device="cpu")
    with pytest.raises(UserError, match="is no folder"):
        gone.search("tea")
    assert sources(gone, "tea", by="words") == sources(index, "tea", by="words")


def test_two_documents_of_one_name_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "docs", **{"own.txt": f"The text of {name}.\n"})
    config = IndexConfig(paths=(str(tmp_path / "a" / "docs"), str(tmp_path / "b" / "docs")), encoder="none")
    with pytest.raises(UserError, match="two documents are called"):
        index_documents(config, tmp_path / "index")


def test_the_best_rows_come_first_and_equal_ones_in_order():
    scores = np.array([0.0, 2.0, 1.0, 2.0, 0.5, 1.0], np.float32)
    assert top(scores, 3) == [1, 3, 2]
    assert top(scores, 9) == [1, 3, 2, 5, 4]


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("queries", "query"),
        ("cats", "cat"),
        ("houses", "house"),
        ("glass", "glass"),
        ("bus", "bus"),
        ("gas", "gas"),
    ],
)
def test_plurals_are_joined_with_their_singulars(plural, expected):
    assert singular(plural) == expected


def test_passages_and_citations_of_a_pdf_name_their_pages(tmp_path):
    pytest.importorskip("pypdfium2")
    canvas = pytest.importorskip("reportlab.pdfgen.canvas").Canvas(str(tmp_path / "guide.pdf"), invariant=1)
    for page in (
        ("The harbour has a crane of twelve metres.",),
        ("The ferry leaves at nine.", "Boats wait outside."),
    ):
        for number, line in enumerate(page):
            canvas.drawString(72, 700 - 40 * number, line)
        canvas.showPage()
    canvas.save()
    (tmp_path / "notes.md").write_text("# Notes\n\nThe ferry is blue.\n", encoding="utf-8")
    paths = (str(tmp_path / "guide.pdf"), str(tmp_path / "notes.md"))
    index_documents(IndexConfig(paths=paths, encoder="none"), tmp_path / "index")
    index = DocumentIndex(tmp_path / "index")
    guide = next(one for one in index.passages() if one.source == "guide.pdf")
    assert guide.page_numbers == [1, 2]
    assert guide.place == "guide.pdf, pages 1-2"
    cited = cite("The ferry leaves at nine. The crane has twelve metres.", [guide])
    assert [one.place for one in cited.citations] == ["guide.pdf, page 2", "guide.pdf, page 1"]
    assert cited.citations[0].to_json()["pages"] == [2]
    hits = index.search("crane").hits
    assert hits[0].to_json()["pages"] == [1, 2]
    notes = next(one for one in index.passages() if one.source == "notes.md")
    assert (notes.page_numbers, notes.place) == ([], "notes.md, Notes")


def test_an_index_without_pages_is_read_and_brought_up_to_date(tmp_path):
    folder = write(tmp_path / "docs")
    indexed(folder, tmp_path / "index")
    before = tmp_path / "old.sqlite"
    path = tmp_path / "index" / "passages.sqlite"
    before.write_bytes(path.read_bytes())
    connection = sqlite3.connect(before)
    connection.execute("ALTER TABLE passages DROP COLUMN pages")
    connection.commit()
    connection.close()
    path.write_bytes(before.read_bytes())
    index = DocumentIndex(tmp_path / "index")
    assert {one.page_numbers == [] for one in index.passages()} == {True}
    (folder / "new.md").write_text("# New\n\nA quagga.\n", encoding="utf-8")
    assert sources(indexed(folder, tmp_path / "index"), "quagga") == ["docs/new.md"]
