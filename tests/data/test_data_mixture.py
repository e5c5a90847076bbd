"""Sources of a corpus: which document is of which, caps, and settings that fit together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parakit.common import UserError
from parakit.data import iter_corpus
from parakit.data.config import TextConfig
from parakit.data.corpus import prepare_corpus
from parakit.stages.data import make_shards, make_tokenizer
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.shard_parts import select_source
from parakit.tokens.shards import TokenShards
from tests.sample_text import sentences


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Two folders of files, of the same names."""
    for name, first in (("books", 0), ("mail", 500)):
        (folder / name).mkdir(exist_ok=True)
        for i in range(20):
            (folder / name / f"{i}.txt").write_text(f"From {name}. " + sentences(first + i, 8))
    sources = [
        {"paths": [str(folder / "books")], "weight": 3},
        {"paths": [str(folder / "mail")], "weight": 1},
    ]
    return {"sources": sources, "validation_fraction": 0.2, "test_fraction": 0.1} | changes


def test_every_document_knows_its_source_up_to_the_shards(tmp_path: Path) -> None:
    corpus = prepare_corpus(TextConfig.parse(settings(tmp_path), "test"), tmp_path / "corpus")
    make_tokenizer(corpus, TokenizerConfig(vocab_size=300), tmp_path / "tokenizer")
    make_shards(corpus, tmp_path / "tokenizer", tmp_path / "shards")
    for split in ("train", "validation", "test"):
        documents = list(iter_corpus(corpus, split))
        shards = TokenShards.open(tmp_path / "shards", split)
        assert shards.source_of is not None
        expected = [int(one.text.startswith("From mail")) for one in documents]
        assert shards.source_of.tolist() == expected
        for number in (0, 1):
            own = [one for one, source in zip(documents, expected, strict=True) if source == number]
            assert select_source(shards, number).n_documents == len(own)
            assert select_source(shards, number).n_bytes == sum(one.n_bytes for one in own)
    train = TokenShards.open(tmp_path / "shards", "train")
    assert train.mixture is not None
    assert (train.mixture.names, train.mixture.weights) == (("books", "mail"), (3, 1))
    rows = json.loads((corpus / "report.json").read_text())["mixture"]
    assert [row["documents"] for row in rows] == np.bincount(train.source_of).tolist()
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-3)


def test_a_source_is_cut_to_its_bytes(tmp_path: Path) -> None:
    values = settings(tmp_path)
    whole = prepare_corpus(TextConfig.parse(values, "test"), tmp_path / "whole")
    values["sources"][1]["max_bytes"] = 2_000
    cut = prepare_corpus(TextConfig.parse(values, "test"), tmp_path / "cut")
    before, after = ({one.text for one in iter_corpus(path, "train")} for path in (whole, cut))
    assert after < before
    assert {one for one in before if one.startswith("From books")} <= after
    left = sum(len(one) for one in after if one.startswith("From mail"))
    assert 800 <= left <= 3_200  # documents stay whole, and which of them is drawn
    for split in ("validation", "test"):
        assert list(iter_corpus(whole, split)) == list(iter_corpus(cut, split))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"paths": ["other"]}, "either paths or sources"),
        ({"sources": [], "paths": ["x"], "curriculum": [{"until": 1, "weights": {"a": 1}}]}, "no sources"),
        ({"curriculum": [{"until": 1, "weights": {"web": 1}}]}, "no source is called 'web'"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        TextConfig.parse(settings(tmp_path, **changes), "test")
