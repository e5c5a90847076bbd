"""Pages of `parakit inspect` hold every text escaped, need no script, and stay small."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from parakit.inspection.differences import CheckpointDifference, LayerDifference, MatrixDifference
from parakit.inspection.expert_routing import ExpertLayer
from parakit.inspection.lenses.logit_lens import Lens
from parakit.inspection.next_tokens import NextTokens, SamplingTable
from parakit.inspection.vectors.projection import PlaneMap
from parakit.inspection.vectors.word_vectors import AnalogyScore, Neighbour
from parakit.reports.inspection.page import MAX_BYTES, bar_rows, render_map, shade, visible, write_page
from parakit.reports.inspection.predictions import experts_page, lens_page, next_page
from parakit.reports.inspection.weights import diff_page, embeddings_page

NASTY = "</td><script>alert(1)</script>"


def lens(n_places: int, n_tokens: int) -> Lens:
    shape = (n_places, n_tokens)
    tokens = tuple(tuple((NASTY, "b", "c", "d", "e") for _ in range(n_tokens)) for _ in range(n_places))
    probabilities = np.tile(np.array([0.5, 0.2, 0.1, 0.05, 0.01]), (*shape, 1))
    places = ("embedding", *map(str, range(1, n_places)))
    ids = np.zeros((*shape, 5), np.int64)
    kl = np.ones(shape)
    return Lens((NASTY,) * n_tokens, places, ids, probabilities, tokens, kl, np.full(shape, np.nan))


def next_of(n: int) -> NextTokens:
    arrays = {
        "top_ids": np.zeros((n, 2), np.int64),
        "top_probabilities": np.full((n, 2), 0.4),
        "top_tokens": ((NASTY, "b"),) * n,
        "entropy": np.ones(n),
    }
    probabilities = np.array([*np.full(n - 1, 0.25), np.nan])
    actual = (*((NASTY,) * (n - 1)), None)
    ranks = np.array([*np.ones(n - 1, int), 0])
    return NextTokens((NASTY,) * n, False, **arrays, actual=actual, actual_probabilities=probabilities,
                      actual_ranks=ranks)  # fmt: skip


def every_page() -> dict[str, str]:
    table = SamplingTable(1, (NASTY, "b"), ((0.5, 1.0),), np.full((1, 2), 0.5), np.array([2]), np.ones(1))
    chosen = np.array([[0, 1], [1, 0]])
    layer = ExpertLayer("blocks.0", (NASTY, "b"), chosen, np.full((2, 2), 0.5), np.full((2, 4), 0.25))
    matrix = MatrixDifference(
        "x.query", "0", "attention.query", (2, 2), 1.0, 0.1, 0.1, 0.99, np.array([0.1]), 1.0
    )
    difference = CheckpointDifference(NASTY, "b", (matrix,), (LayerDifference("0", 0.1, 0.99, 4, 2),))
    return {
        "lens": lens_page(lens(3, 4), NASTY),
        "tuned": lens_page(lens(3, 4), "model", [3.0, 2.0, 0.0]),
        "next": next_page(next_of(3), table, NASTY),
        "experts": experts_page([layer], NASTY),
        "diff": diff_page(difference),
        "embeddings": embeddings_page(
            NASTY,
            neighbours=[(NASTY, NASTY, [Neighbour(NASTY, 0.5)])],
            texts=[NASTY, "b"],
            similarity=np.eye(2),
            accuracy=[AnalogyScore(NASTY, 1, 2, 3), AnalogyScore("none", 0, 0, 3)],
            plane=PlaneMap((NASTY, "b"), np.array([[0.0, 1], [1, 0]]), "pca", (0.6, 0.4)),
            strong=[NASTY],
        ),
    }


def test_pages_hold_texts_escaped_and_run_nothing():
    for name, page in every_page().items():
        assert "<script" not in page, name
        assert "&lt;script&gt;" in page, name
        assert "default-src 'none'" in page, name
        assert not re.search(r"(src|href)\s*=\s*[\"']?https?:", page), name
        assert "prefers-color-scheme: dark" in page, name


def test_a_long_text_gives_a_page_within_the_limit():
    page = lens_page(lens(31, 512), "model")
    assert len(page.encode()) < MAX_BYTES
    assert "The first 387 of 512 positions are shown." in page


def test_a_map_is_an_svg_file_of_its_own():
    found = PlaneMap((NASTY, "b", "c"), np.array([[0.0, 1], [1, 0], [0.5, 0.5]]), "pca", (0.6, 0.4))
    picture = ElementTree.fromstring(render_map(found, ["b"]))
    texts = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "b" in texts
    assert len(texts) == 3


def test_a_page_is_written_whole(tmp_path: Path):
    path = write_page("<html>", tmp_path / "page.html")
    assert path.read_text() == "<html>"
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_bars_are_shares_of_the_longest():
    rows = bar_rows([("a", 2.0, "2", ""), ("b", -1.0, "-1", "")], {"a": 4.0})
    assert [(row["share"], row["second"]) for row in rows] == [(50.0, 100.0), (0.0, None)]


def test_shades_and_tokens_are_drawn_within_bounds():
    assert [shade(share) for share in (-1, 0.5, 2, float("nan"))] == [0, 10, 20, 0]
    assert [visible(token) for token in ("\n", " ", "", " a")] == ["↵", "␣", "∅", " a"]
