"""Hostile input is counted and left out, in bounded memory, and never a crash."""

import gzip
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers import lines
from parakit.data.readers.files import read_documents

GOOD = "a good file with some text in it"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.txt").write_text(GOOD)
    return tmp_path / "in"


def read(*paths: Path, **settings: object) -> tuple[list[Document], ReadReport]:
    report = ReadReport()
    config = TextConfig.parse({"paths": [str(path) for path in paths]} | settings)
    return list(read_documents(config, report)), report


def test_a_line_over_the_limit_is_left_out_and_its_neighbours_stay(folder: Path) -> None:
    for n in (999, 1_000, 1_001, 3_500):
        (folder / "long.txt").write_bytes(b"before\n" + b"x" * n + b"\nafter\n")
        documents, report = read(folder / "long.txt", max_line_bytes=1_000)
        assert report.long_lines == (n > 1_000)
        assert report.long_line_bytes == (n if n > 1_000 else 0)
        assert "".join(d.text for d in documents) == "before\n" + "x" * n * (n <= 1_000) + "\nafter\n"


@given(st.lists(st.integers(0, 60), max_size=12), st.booleans())
def test_lines_over_the_limit_are_found_at_every_position(
    tmp_path: Path, sizes: list[int], ends: bool
) -> None:
    raw = b"\n".join(bytes([97 + k]) * size for k, size in enumerate(sizes)) + b"\n" * ends
    path = tmp_path / "a.txt"
    path.write_bytes(b"start\n" + raw)
    documents, report = read(path, max_line_bytes=20)
    kept = [line if len(line) <= 20 else b"" for line in raw.split(b"\n")]
    assert "".join(d.text for d in documents) == "start\n" + b"\n".join(kept).decode()
    assert report.long_lines == sum(size > 20 for size in sizes)


def test_a_huge_line_takes_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"text": "one"}\n{"text": "')
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"text": "three"}\n')
    tracemalloc.start()
    documents, report = read(path, max_line_bytes=4 * 2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [d.source for d in documents] == ["huge.jsonl:1", "huge.jsonl:3"]
    assert report.long_lines == 1
    assert peak < 20e6


def test_a_compressed_bomb_is_left_out_before_any_of_it_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ALWAYS_ALLOWED", 10_000)
    (folder / "bomb.txt.gz").write_bytes(gzip.compress(b"good text\n" * 200_000))
    documents, report = read(folder)
    assert [d.text for d in documents] == [GOOD]
    assert report.skipped_files == [("in/bomb.txt.gz", "expands too much: over 200 times")]
    with pytest.raises(UserError, match="expands too much"):
        read(folder / "bomb.txt.gz")
    assert len(read(folder, max_expansion=2_000)[0]) > 2


def test_a_parquet_bomb_by_repetition_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "ALWAYS_ALLOWED", 10_000)
    column = pyarrow.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), ["some text\n" * 1_000])
    parquet.write_table(pyarrow.table({"text": column}), folder / "bomb.parquet")
    report = ReadReport()
    config = TextConfig(paths=(str(folder),))
    assert sum(d.n_bytes for d in read_documents(config, report)) < 2_000_000
    assert report.skipped["expands too much"] == 1


def test_few_nuls_are_bad_bytes_and_many_make_a_file_binary(folder: Path) -> None:
    (folder / "log.txt").write_bytes(b"a line of a log file\n" * 200 + b"\0\0" + b"more\n")
    (folder / "nuls.txt").write_bytes(b"text\0" * 100)
    documents, report = read(folder)
    assert report.bad_files == {"in/log.txt": 2}
    assert documents[-1].text.endswith("\ufffd\ufffdmore\n")
    assert report.skipped == {"binary": 1}


def test_broken_rows_are_counted_with_their_numbers(folder: Path) -> None:
    rows = [
        '{"text": "one"}',
        '{"text": "two',
        "",
        "[" * 50_000,
        '{"text": "five"}',
        '{"text": 7}',
        "null",
        "{}",
    ]
    rows += ['{"text": "\\ud800 half, \\u0000 NUL"}'] * 5
    (folder / "rows.jsonl").write_bytes("\n".join(rows).encode() + b"\n" + b'{"text": "caf\xe9"}')
    documents, report = read(folder)
    broken = report.broken_files["in/rows.jsonl"]
    assert (broken.n, broken.rows) == (5, [2, 4, 6, 7, 8])
    assert broken.why.startswith("row 2: not JSON")
    assert [d.text for d in documents[1:]] == ["one", "five", *["\ufffd half, \ufffd NUL"] * 5, "caf\u00e9"]
    assert report.bad_bytes == 10


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"content": "hello", "id": 1}', "no field 'text', only 'content', 'id'"),
        ('{"messages": []}', "these rows are conversations"),
        ("hello", "not JSON"),
    ],
)
def test_a_file_of_mostly_broken_rows_is_an_error(folder: Path, row: str, says: str) -> None:
    (folder / "rows.jsonl").write_text('{"text": "one"}\n' + f"{row}\n" * 3)
    for path in (folder / "rows.jsonl", folder):
        with pytest.raises(UserError, match="3 of 4 rows cannot be read") as error:
            read(path)
        assert says in str(error.value)


def test_a_file_whose_rows_are_all_broken_is_not_read_to_its_end(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"content": "x"}\n' * 5_000)
    with pytest.raises(UserError, match="1000 of 1000 rows"):
        read(folder / "rows.jsonl")


def parquet_bytes() -> bytes:
    buffer = io.BytesIO()
    texts = [f"the text of row {k} " * 9 for k in range(300)]
    parquet.write_table(pyarrow.table({"text": texts}), buffer, row_group_size=50)
    return buffer.getvalue()


def test_parquet_cut_or_flipped_anywhere_never_crashes(folder: Path) -> None:
    whole = parquet_bytes()
    draws = np.random.default_rng(0)
    footer = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    for k in range(200):
        raw = bytearray(whole)
        if k < 30:
            raw = raw[: draws.integers(len(raw))]
        else:
            raw[draws.integers(footer if k % 2 else 0, len(raw))] = draws.integers(256)
        (folder / "broken.parquet").write_bytes(raw)
        documents, _ = read(folder)
        assert documents[-1].text == GOOD


def test_parquet_without_the_column_or_without_text_in_it_says_what_it_has(folder: Path) -> None:
    path = folder / "a.parquet"
    parquet.write_table(pyarrow.table({"content": ["a"], "text": [1]}), path)
    with pytest.raises(UserError, match="'text' is int64"):
        read(path)
    with pytest.raises(UserError, match="did you mean 'content'"):
        read(path, text_field="contents")
    assert read(path, text_field="content")[0][0].text == "a"


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(),
        pyarrow.large_string(),
        pyarrow.binary(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
)
def test_every_kind_of_text_column_is_read(tmp_path: Path, kind: pyarrow.DataType) -> None:
    texts = ["one", "two", None, "one", "caf\u00e9"]
    column = (
        pyarrow.array(texts).dictionary_encode()
        if pyarrow.types.is_dictionary(kind)
        else pyarrow.array(texts).cast(kind)
    )
    parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
    documents, report = read(tmp_path / "a.parquet")
    assert [d.text for d in documents] == ["one", "two", "one", "caf\u00e9"]
    assert report.empty_rows == 1


@given(st.binary(max_size=400))
def test_any_bytes_in_a_json_lines_file_are_an_error_or_documents(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"text": GOOD}).encode() + b"\n" + raw)
    try:
        documents, _ = read(path)
    except UserError:
        return
    assert documents[0].text == GOOD
