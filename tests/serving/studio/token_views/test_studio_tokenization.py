"""What the page of tokens shows: pieces that join to the text, counts, special tokens apart, published vocabularies."""

from __future__ import annotations

import gzip
import json

import pytest

from parakit.serving.studio.inventory.finding import find_folders, find_models, folder_bytes, named
from parakit.serving.studio.token_views.sentences import SENTENCES
from parakit.serving.studio.token_views.tokenization import (
    MAX_SHOWN,
    language_rows,
    price_names,
    reading_price,
    special_tokens,
    tokenize,
)
from parakit.serving.studio.token_views.tokenizers import tokenizer_sources
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def build_tokenizer(studio_folder):
    return Tokenizer.load(studio_folder / "builds" / "primer" / "tokenizer")


def test_shown_pieces_join_to_the_text_and_special_tokens_are_apart(build_tokenizer):
    text = "Naïve café, 東京 <|im_end|> <script>alert(1)</script>\n end"
    shown = tokenize("own", build_tokenizer, text)
    assert "".join(token.text for token in shown.tokens if not token.is_special) == text
    assert [token.token_id for token in shown.tokens if not token.is_special] == build_tokenizer.encode(text)
    assert (
        not {token.token_id for token in shown.tokens if not token.is_special} & build_tokenizer.control_ids
    )
    assert shown.figures.n_tokens == len(build_tokenizer.encode(text))
    data = b"".join(bytes.fromhex(t.data) for t in shown.tokens if not t.is_special)
    assert data.decode() == text
    assert [i for _, i in special_tokens(build_tokenizer)] == sorted(build_tokenizer.control_ids)


def test_a_long_text_is_counted_whole_and_shown_in_part(build_tokenizer):
    shown = tokenize("own", build_tokenizer, "a b " * MAX_SHOWN)
    assert shown.n_hidden == shown.figures.n_tokens - MAX_SHOWN


def test_languages_are_counted_relative_to_the_first(build_tokenizer):
    rows = language_rows([build_tokenizer], SENTENCES)
    assert rows[0].ratios == (1.0,)
    assert [row.n_tokens[0] for row in rows] == [len(build_tokenizer.encode(text)) for _, text in SENTENCES]
    assert rows[-1].ratios[0] == rows[-1].n_tokens[0] / rows[0].n_tokens[0]


def test_reading_costs_tokens_times_the_price():
    name = price_names()[0]
    once, origin = reading_price(1000, name)
    assert reading_price(3000, name)[0] == pytest.approx(3 * once)
    assert origin


def test_sources_are_folders_once_and_published_files_that_are_here(studio_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("PARAKIT_DATA", raising=False)
    names = [source.name for source in tokenizer_sources(studio_folder)]
    assert "builds/primer/tokenizer" in names
    assert "builds/primer/pretrain" not in names  # the same one
    assert "gpt2" not in names
    for file in ("encoder.json", "vocab.bpe"):
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(b""))
    monkeypatch.setenv("PARAKIT_DATA", str(tmp_path))
    assert tokenizer_sources(studio_folder)[-1].published == "gpt2"


def test_the_inventory_names_what_is_there(studio_folder, tmp_path):
    kinds = {one.name: one.kind for one in find_folders(studio_folder)}
    assert kinds["builds/primer"] == "build"
    assert kinds["builds/primer/corpus"] == "corpus"
    assert kinds["builds/primer/pretrain"] == "model"
    assert not any("/work/" in name for name in kinds)
    assert {one.name for one in find_models(studio_folder)} <= set(kinds)
    found = named(find_folders(studio_folder), "builds/primer/pretrain")
    assert folder_bytes(found.path) == sum(f.stat().st_size for f in found.path.rglob("*") if f.is_file())


def test_a_damaged_lineage_is_listed_with_its_fault(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "lineage.json").write_text(json.dumps({"kind": 3}))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "lineage.json").write_text("{}")
    [found] = find_folders(tmp_path)
    assert (found.name, found.kind) == ("broken", "damaged")
    assert "lineage.json" in found.fault


def test_links_are_not_followed(tmp_path, studio_folder):
    (tmp_path / "link").symlink_to(studio_folder)
    assert find_folders(tmp_path) == []
