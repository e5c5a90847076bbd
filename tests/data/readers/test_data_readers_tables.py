"""Rows of any schema: CSV and its dialects, JSON with or without `text`, Arrow; a field that is found is reported."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather, ipc, parquet

from parakit.common.errors import UserError
from parakit.data.readers.arrow_messages import declared_size
from parakit.data.readers.formats.csv_tables import find_separator, is_header
from parakit.data.readers.parquet_pages import page_sizes
from parakit.data.readers.row_texts import find_text_field
from tests.data.readers.test_data_readers_containers import read

LONG = "a text that is long enough to be taken for the text of a row"
cells = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_dialect_and_the_header_of_a_table_are_found(tmp_path: Path, separator: str) -> None:
    rows = [["title", "body", "n"], ["One", f'"{LONG}; ""quoted"", \n|next line"', "3"], ["Two", LONG, "4"]]
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "a.csv").write_bytes(text.encode())
    documents, report = read(tmp_path / "a.csv")
    assert [document.text for document in documents] == [f'{LONG}; "quoted", \n|next line', LONG]
    assert [document.source for document in documents] == ["a.csv:2", "a.csv:3"]
    assert report.found_fields == {"a.csv": "body"}
    assert report.ignored_keys == {"title": 2, "n": 2}


def test_a_table_without_a_text_gives_all_columns_of_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,city\nAda,London\n,\nBob,Paris,extra\n")
    documents, report = read(tmp_path / "a.csv")
    assert [document.text for document in documents] == ["name: Ada\ncity: London", "name: Bob\ncity: Paris"]
    assert report.found_fields == {"a.csv": "all columns"}
    (tmp_path / "b.tsv").write_text("1\tx\n2\ty\n")
    assert [d.text for d in read(tmp_path / "b.tsv")[0]] == [
        "column 1: 1\ncolumn 2: x",
        "column 1: 2\ncolumn 2: y",
    ]
    assert not is_header(["a", "a"])
    assert not is_header(["a", "12.5"])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(cells, min_size=3, max_size=3), min_size=2, max_size=8), st.sampled_from(",;\t|"))
def test_the_separator_of_quoted_rows_is_found(rows: list[list[str]], separator: str) -> None:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    lines = [separator.join(map(quoted, row)) + "\n" for row in rows]
    assert find_separator([*lines, "\n"]) == separator


def test_a_template_is_filled_from_the_fields_of_rows(tmp_path: Path) -> None:
    rows = [{"title": "One", "a": {"b": LONG}, "id": 7}, {"title": "Two"}, {"other": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    documents, report = read(tmp_path / "a.jsonl", text_template="{title} ({id})\n{a.b}")
    assert [document.text for document in documents] == [f"One (7)\n{LONG}", "Two ()\n"]
    assert report.broken_rows == 1
    table = pyarrow.table({"title": ["x", None], "body": ["first", None]})
    parquet.write_table(table, tmp_path / "a.parquet")
    documents, report = read(tmp_path / "a.parquet", text_template="{title}: {body}")
    assert [document.text for document in documents] == ["x: first"]
    with pytest.raises(UserError, match="names no field"):
        read(tmp_path / "a.parquet", text_template="no field")


def test_the_longest_field_on_average_is_found_by_a_clear_rule() -> None:
    rows = [{"id": "x" * 30, "body": LONG, "tags": [LONG]}, {"id": "y" * 30, "body": None}]
    assert find_text_field(rows) in ("id", "body")
    assert find_text_field([{"a": "x" * 25, "b": "y" * 26}]) == "b"
    assert find_text_field([{"a": {"b": {"c": LONG}}, "d": "short"}]) == "a.b.c"
    assert find_text_field([{"a": "x" * 19}]) is None
    assert find_text_field([{"a": LONG}] + [{"a": ""}] * 9) is None


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([{"id": 1, "body": LONG}, {"id": 2, "body": LONG + "!"}]),
        json.dumps({"version": 1, "data": {"rows": [{"body": LONG}, {"body": LONG + "!"}]}}, indent=1),
        "\n".join(json.dumps({"n": i, "body": LONG + "!" * i}) for i in range(2)),
    ],
    ids=["array", "object", "lines"],
)
def test_json_of_any_schema_is_read_and_settings_are_not(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    (tmp_path / "package.json").write_text(json.dumps({"name": "x", "description": LONG}, indent=1))
    documents, report = read(tmp_path)
    assert [document.text for document in documents] == [LONG, LONG + "!"]
    assert report.found_fields == {f"{tmp_path.name}/a.json": "body"}
    assert report.skipped == {"no rows of text": 1}
    assert [document.text for document in read(tmp_path / "package.json")[0]] == [LONG]


@pytest.mark.parametrize("compression", ["uncompressed", "zstd", "lz4"])
def test_arrow_and_feather_are_read(tmp_path: Path, compression: str) -> None:
    table = pyarrow.table({"id": [1, 2], "content": [LONG, LONG + "!"]})
    feather.write_feather(table, str(tmp_path / "a.feather"), compression=compression)
    with (
        pyarrow.OSFile(str(tmp_path / "b.arrow"), "wb") as sink,
        pyarrow.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    for name in ("a.feather", "b.arrow"):
        documents, report = read(tmp_path / name)
        assert [document.text for document in documents] == [LONG, LONG + "!"]
        assert report.found_fields == {name: "content"}
        raw = (tmp_path / name).read_bytes()
        (tmp_path / f"cut.{name}").write_bytes(raw[: len(raw) // 2])
        with pytest.raises(UserError, match="damaged Arrow"):
            read(tmp_path / f"cut.{name}")


def test_an_open_quotation_mark_is_damage_and_not_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,text\n1,one text\n" + '2,"' + "a line of it\n" * 500)
    documents, report = read(tmp_path, max_line_bytes=2_000)
    assert [document.text for document in documents] == ["one text"]
    assert report.skipped == {"damaged CSV": 1}


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("compression", ["lz4", "zstd", None])
def test_the_size_of_an_arrow_file_is_known_before_it_is_decompressed(
    tmp_path: Path, kind: str, compression: str | None
) -> None:
    rows = pyarrow.table(
        {"text": ["word " * 40] * 500, "kind": pyarrow.array(["a", "b"] * 250).dictionary_encode()}
    )
    path = tmp_path / "rows.arrow"
    make = ipc.new_file if kind == "file" else ipc.new_stream
    with make(str(path), rows.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(rows, max_chunksize=200)
    with pyarrow.OSFile(str(path)) as source:
        source.seek(8 if kind == "file" else 0)
        declared = sum(map(declared_size, ipc.MessageReader.open_stream(source)))
    assert rows.nbytes <= declared <= rows.nbytes + 3_000
    assert len(read(path, deduplicate=False)[0]) == 500
    if compression:  # buffers that say that they become a terabyte
        content = path.read_bytes()
        frame = {"lz4": b"\x04\x22\x4d\x18", "zstd": b"\x28\xb5\x2f\xfd"}[compression]
        size = (200 * 200).to_bytes(8, "little") + frame  # of the texts of a batch
        assert size in content
        path.write_bytes(content.replace(size, (2**40).to_bytes(8, "little") + frame, 1))
        with pytest.raises(UserError, match="expands too much"):
            read(path)


def test_pages_of_parquet_that_say_less_in_the_footer_are_left_out_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pyarrow.table({"text": ["word " * 4_000] * 50, "n": range(50)})
    parquet.write_table(rows, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    with open(tmp_path / "a.parquet", "rb") as stream:
        columns = parquet.ParquetFile(stream).metadata.row_group(0)
        n_bytes = columns.column(0).total_uncompressed_size
        assert n_bytes - 200 < sum(page_sizes(stream, {"text"})) < n_bytes
        assert sum(page_sizes(stream)) - sum(page_sizes(stream, {"text"})) < 1_000
    monkeypatch.setattr("parakit.data.readers.parquet.page_sizes", lambda *_: iter([2**30]))
    with pytest.raises(UserError, match="expands too much"):
        read(tmp_path / "a.parquet")
