"""A corpus is complete, without duplicates, split once and for all, and the same bytes for the same files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.data.documents import Document
from parakit.data.splits import SPLITS, split_of
from parakit.primer import PrimerConfig, generate_documents
from parakit.primer.sources import primer_documents
from parakit.stages.data_config import CorpusConfig


def text_of(k: int, n_words: int = 40) -> str:
    random = np.random.default_rng(k)
    return f"Text {k}. " + " ".join(f"w{word}" for word in random.integers(0, 900, size=n_words)) + "\n"


def write_files(folder: Path, numbers: list[int]) -> Path:
    folder.mkdir(parents=True)
    for k in numbers:
        (folder / f"{k:04}.txt").write_text(text_of(k))
    return folder


def prepare(target: Path, *paths: Path, **settings: object) -> dict[str, list[Document]]:
    prepare_corpus(TextConfig.parse({"paths": [str(path) for path in paths]} | settings), target)
    return {split: list(iter_corpus(target, split)) for split in SPLITS}


def report_of(path: Path) -> dict:
    return json.loads((path / "report.json").read_text())


def test_every_document_is_in_one_split_and_the_report_adds_up(tmp_path: Path) -> None:
    splits = prepare(tmp_path / "corpus", write_files(tmp_path / "in", list(range(300))))
    assert sorted(d.text for documents in splits.values() for d in documents) == sorted(
        map(text_of, range(300))
    )
    report = report_of(tmp_path / "corpus")
    for split, documents in splits.items():
        assert report["splits"][split] == {
            "documents": len(documents),
            "bytes": sum(d.n_bytes for d in documents),
            "sources": len(documents),
        }
        assert all(split_of(d.digest, 0.05, 0.05) == split for d in documents)
    assert (report["files"], report["documents"], report["max_document_chars"]) == (300, 300, 20_000)
    artifact = open_artifact(tmp_path / "corpus", "corpus")
    assert artifact.lineage["result"]["splits"] == report["splits"]


def test_the_order_in_which_files_were_created_does_not_matter(tmp_path: Path) -> None:
    first = write_files(tmp_path / "a" / "in", list(range(120)))
    second = write_files(tmp_path / "b" / "in", list(range(119, -1, -1)))
    prepare(tmp_path / "one", first)
    prepare(tmp_path / "two", second)
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@settings(max_examples=15)
@given(st.sets(st.integers(0, 400), min_size=90, max_size=120), st.sets(st.integers(0, 400), max_size=40))
def test_a_document_never_moves_when_others_are_added(
    tmp_path_factory: pytest.TempPathFactory, before: set[int], added: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("grow")
    shares = {"validation_fraction": 0.2, "test_fraction": 0.2}
    old = prepare(folder / "old", write_files(folder / "a", sorted(before)), **shares)
    new = prepare(folder / "new", write_files(folder / "b", sorted(before | added)), **shares)
    for split in SPLITS:
        assert {d.text for d in old[split]} <= {d.text for d in new[split]}


def test_rows_keep_whatever_a_text_can_hold(tmp_path: Path) -> None:
    odd = [
        "line\u2028separator",
        'quote " and \\',
        "tab\tand\rreturn",
        "\U0001f600",
        "\ufeffmark",
        "\x1b[0m \x85",
    ]
    rows = [json.dumps({"text": text}) for text in [*odd, *map(text_of, range(100))]]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    splits = prepare(tmp_path / "corpus", tmp_path / "a.jsonl", cleaning=[])
    assert {d.text for documents in splits.values() for d in documents} >= set(odd)


def test_duplicates_go_and_are_counted_unless_kept(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text_of(k % 100)}) for k in range(150)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    splits = prepare(tmp_path / "corpus", tmp_path / "a.jsonl")
    assert sum(map(len, splits.values())) == 100
    assert report_of(tmp_path / "corpus")["duplicates"] == 50
    kept = prepare(tmp_path / "kept", tmp_path / "a.jsonl", deduplicate=False)
    assert sum(map(len, kept.values())) == 150
    assert report_of(tmp_path / "kept")["duplicates"] == 0


@pytest.mark.parametrize("deduplicate", [True, False])
def test_no_document_of_the_validation_files_is_trained_on(tmp_path: Path, deduplicate: bool) -> None:
    train = write_files(tmp_path / "in", list(range(100)))
    validation = write_files(tmp_path / "held", list(range(90, 105)))
    settings = {"validation_paths": [str(validation)], "deduplicate": deduplicate}
    splits = prepare(tmp_path / "corpus", train, **settings)
    assert [d.text for d in splits["validation"]] == [text_of(k) for k in range(90, 105)]
    others = {d.text for split in ("train", "test") for d in splits[split]}
    assert others == {text_of(k) for k in range(90)}
    assert report_of(tmp_path / "corpus")["validation_duplicates"] == 10


def test_a_validation_file_inside_the_folder_is_not_trained_on_either(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", list(range(100)))
    (folder / "0050.txt").write_text("".join(text_of(k, 400) for k in range(500, 530)))
    splits = prepare(tmp_path / "corpus", folder, validation_paths=[str(folder / "0050.txt")])
    assert "".join(d.text for d in splits["validation"]) == (folder / "0050.txt").read_text()
    assert sum(map(len, (splits["train"], splits["test"]))) == 99


def test_of_a_dozen_files_whole_ones_are_held_out(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(12):
        (folder / f"{k}.txt").write_text("\n".join(text_of(100 * k + j, 20) for j in range(20)))
    splits = prepare(tmp_path / "corpus", folder, max_document_chars=500)
    sources = {split: {d.source for d in documents} for split, documents in splits.items()}
    assert {split: len(names) for split, names in sources.items()} == {
        "train": 10,
        "validation": 1,
        "test": 1,
    }
    assert not sources["train"] & (sources["validation"] | sources["test"])
    report = report_of(tmp_path / "corpus")
    assert report["split_by"] == "text"
    assert sum(d.n_bytes for documents in splits.values() for d in documents) == report["bytes"]


@pytest.mark.parametrize("n_files", [1, 3])
def test_of_a_book_or_few_regions_are_held_out_with_a_gap(tmp_path: Path, n_files: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    texts = ["".join(text_of(1_000 * k + j) for j in range(200)) for k in range(n_files)]
    for k, text in enumerate(texts):
        (folder / f"{k}.txt").write_text(text)
    splits = prepare(tmp_path / "corpus", folder)
    report = report_of(tmp_path / "corpus")
    assert report["split_by"] == "region"
    assert report["gap"]["documents"] == 2 * n_files
    assert report["gap"]["bytes"] < 0.06 * report["bytes"]
    assert {split: counts["sources"] for split, counts in report["splits"].items()} == dict.fromkeys(
        SPLITS, n_files
    )
    for k, text in enumerate(texts):
        parts = ["".join(d.text for d in splits[split] if d.source == f"in/{k}.txt") for split in SPLITS]
        places = [(text.index(part), text.index(part) + len(part)) for part in parts]  # each is in one piece
        assert places[0][0] == 0
        assert places[0][1] + 100 < places[1][0]
        assert places[1][1] + 100 < places[2][0]
        assert places[2][1] == len(text)


def test_a_text_too_small_to_split_is_an_error_with_the_ways_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 250)
    with pytest.raises(UserError, match=r"leave .*empty") as error:
        prepare(tmp_path / "corpus", tmp_path / "a.txt")
    assert "validation_paths" in error.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    splits = prepare(tmp_path / "corpus", tmp_path / "a.txt", validation_fraction=0, test_fraction=0)
    assert [len(documents) for documents in splits.values()] == [1, 0, 0]


def test_too_little_text_is_an_error_that_names_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("too short")
    with pytest.raises(UserError, match="has 9 bytes, and 1,000 are the least"):
        prepare(tmp_path / "corpus", tmp_path / "a.txt")
    held = tmp_path / "b.txt"
    held.write_text("too short")
    with pytest.raises(UserError, match="without 1 duplicate document"):
        prepare(tmp_path / "corpus", tmp_path / "a.txt", validation_paths=[str(held)])


def test_no_text_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text was given"):
        prepare_corpus(TextConfig(), tmp_path / "corpus")
    with pytest.raises(UserError, match="not both"):
        CorpusConfig.parse({"paths": ["a"], "primer": {}})


def test_an_error_leaves_an_existing_corpus_as_it_was(tmp_path: Path) -> None:
    prepare(tmp_path / "corpus", write_files(tmp_path / "in", list(range(100))))
    before = (tmp_path / "corpus" / "train.jsonl").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        prepare(tmp_path / "corpus", tmp_path / "in")
    with pytest.raises(UserError, match="no such file"):
        prepare_corpus(TextConfig(paths=(str(tmp_path / "none"),)), tmp_path / "corpus", overwrite=True)
    assert (tmp_path / "corpus" / "train.jsonl").read_bytes() == before


def test_a_corpus_inside_its_own_folder_is_not_read_again(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", list(range(100)))
    prepare(folder / "corpus", folder)
    prepare_corpus(TextConfig(paths=(str(folder),)), folder / "corpus", overwrite=True)
    assert report_of(folder / "corpus")["documents"] == 100


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    prepare(tmp_path / "corpus", write_files(tmp_path / "in", list(range(100))))
    with pytest.raises(UserError, match="splits are train, validation, test"):
        list(iter_corpus(tmp_path / "corpus", "valid"))


def test_the_primer_is_a_corpus(tmp_path: Path) -> None:
    config = PrimerConfig(n_documents=300)
    prepare_corpus(TextConfig(), tmp_path / "corpus", source=primer_documents(config))
    texts = {d.text for split in SPLITS for d in iter_corpus(tmp_path / "corpus", split)}
    assert texts == {d.text for d in generate_documents(config)}
    assert open_artifact(tmp_path / "corpus").lineage["seed"] == 0


@pytest.mark.long
def test_real_books_become_a_corpus(tmp_path: Path, public_data: Callable[[str], Path]) -> None:
    splits = prepare(tmp_path / "corpus", public_data("gutenberg"))
    sizes = {split: sum(d.n_bytes for d in documents) for split, documents in splits.items()}
    assert sum(sizes.values()) > 30e6
    assert 0.01 < sizes["validation"] / sum(sizes.values()) < 0.1
    assert 0.01 < sizes["test"] / sum(sizes.values()) < 0.1
    books = [{d.source for d in documents} for documents in splits.values()]
    assert sum(map(len, books)) == len(set.union(*books)) == 29  # with SOURCE.txt
