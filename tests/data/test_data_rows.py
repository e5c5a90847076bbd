"""The one reader of rows: no key vanishes, arrays are read like lines, rows are bounded, ends of lines are understood."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.common.files import read_json
from parakit.data.config import TextConfig
from parakit.data.conversations.conversation import read_conversations
from parakit.data.conversations.sets import prepare_conversations
from parakit.data.examples.readers import read_examples
from parakit.data.examples.sets import prepare_examples
from parakit.data.preferences import prepare_preferences, read_preferences
from parakit.data.read_report import ReadReport
from parakit.data.readers import arrays
from parakit.data.readers.arrays import iter_array
from parakit.data.readers.files import read_documents
from parakit.data.readers.lines import RowStream, UnreadableFileError
from parakit.data.readers.rows import read_records
from parakit.data.readers.tracked_row import TrackedRow
from parakit.data.row_report import MAX_KEYS, OTHER_KEYS, RowReport, skip_summary
from tests.attacks.row_files import attack
from tests.attacks.rows import fault_of, outcome, random_row
from tests.short_suite import examples

TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
PAIR = {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}
READERS: dict[str, tuple[Callable[[Path], list[Any]], dict[str, Any]]] = {
    "conversations": (lambda path: list(read_conversations(path)), TALK),
    "preferences": (lambda path: list(read_preferences(path, RowReport())), PAIR),
    "examples": (
        lambda path: list(read_examples(path, "classify")),
        {"text": "Not bad.", "label": "good"},
    ),
    "documents": (
        lambda path: list(read_documents(TextConfig(paths=(str(path),)), ReadReport())),
        {"text": "Not bad."},
    ),
}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path, compression="none", use_dictionary=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@examples(150)
@given(st.randoms(use_true_random=False))
def test_every_key_of_any_row_is_read_refused_by_number_or_counted(rng: random.Random) -> None:
    kind, row = random_row(rng)
    assert fault_of(kind, row) is None


def test_that_check_sees_a_key_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrackedRow, "close", lambda row: [])
    for kind, row in (
        ("conversation", TALK),
        ("preference", PAIR),
        ("embed", {"text": "a", "positive": "b"}),
    ):
        assert fault_of(kind, row | {"url": "x"}) == "url vanished"


def test_ignored_keys_are_counted_in_every_report(tmp_path: Path) -> None:
    def report_of(prepare: Callable[..., Path], row: Callable[[int], dict[str, Any]], **settings: Any) -> Any:
        path = written(tmp_path / "rows.jsonl", [row(i) | {"source": "forum"} for i in range(40)])
        return read_json(prepare([str(path)], tmp_path / prepare.__name__, **settings) / "report.json")

    def examples(paths: list[str], out: Path) -> Path:
        return prepare_examples(paths, "classify", out)

    reports = [
        report_of(prepare_conversations, lambda i: {"prompt": f"Say {i}", "completion": str(i)}),
        report_of(prepare_preferences, lambda i: {"prompt": f"Say {i}", "chosen": f"{i}", "rejected": "no"}),
        report_of(examples, lambda i: {"text": f"Say {i}", "label": "ab"[i % 2]}),
    ]
    for report in reports:
        assert report["ignored_keys"] == {"source": 40}
        assert "ignored: source (40 rows)" in skip_summary(report)


def test_a_million_different_keys_do_not_fill_the_report() -> None:
    report = RowReport()
    report.ignore(f"key{i}" for i in range(3 * MAX_KEYS))
    assert len(report.ignored) == MAX_KEYS + 1
    assert report.ignored[OTHER_KEYS] == 2 * MAX_KEYS
    (line,) = skip_summary(report.to_dict())
    assert line.endswith("more keys")


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.ndjson"])
def test_an_array_is_read_whatever_the_file_is_called(kind: str, name: str, tmp_path: Path) -> None:
    read, row = READERS[kind]
    lines = read(written(tmp_path / "rows.jsonl", [row, row]))
    path = tmp_path / name
    for text in (json.dumps([row, row]), f"\ufeff \n{json.dumps([row, row], indent=2)}\n"):
        path.write_text(text)
        found = read(path)
        assert str(found).replace(name, "rows.jsonl") == str(lines)


@pytest.mark.parametrize("kind", READERS)
def test_lines_that_end_in_a_carriage_return_alone_are_rows(kind: str, tmp_path: Path) -> None:
    read, row = READERS[kind]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(f"{json.dumps(row)}\r{json.dumps(row)}\r".encode())
    assert len(read(path)) == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-32-be"])
def test_rows_in_a_wide_encoding_are_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(f"{json.dumps(TALK)}\n{json.dumps(TALK)}\n".encode(encoding))
    assert len(list(read_conversations(path))) == 2


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("conversations", ".jsonl"),
        ("conversations", ".parquet"),
        ("preferences", ".json"),
        ("examples", ".jsonl"),
    ],
)
def test_a_row_over_16_mib_is_refused_by_every_reader(kind: str, suffix: str, tmp_path: Path) -> None:
    read, row = READERS[kind]
    text = json.dumps(row).replace("Hi", "x" * (17 << 20)).replace("Not bad.", "x" * (17 << 20))
    path = tmp_path / f"rows{suffix}"
    if suffix == ".json":
        path.write_text(f"[{json.dumps(row)}, {text}]")
    else:
        written(path, [row, json.loads(text)])
    with pytest.raises(UserError, match="over 16,777,216 bytes") as caught:
        read(path)
    assert "row 2" in str(caught.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def numbered(data: bytes) -> list[tuple[int, Any]]:
    return list(iter_array(RowStream(cast(Any, io.BytesIO(data))), 1000))


@examples(40)
@given(
    rows=st.lists(JSON, max_size=6),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
    size=st.integers(1, 9),
)
def test_an_array_is_streamed_as_it_is_parsed_whole(
    rows: list[Any], indent: int | None, ascii_only: bool, size: int
) -> None:
    data = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "SAMPLE", size)
        patch.setattr("parakit.data.readers.lines.SAMPLE", size)
        assert numbered(data) == list(enumerate(rows, 1))
        for cut in range(1, len(data), 1 + len(data) // 8):
            rows_read: list[tuple[int, Any]] = []
            with pytest.raises(UnreadableFileError):
                rows_read.extend(iter_array(RowStream(cast(Any, io.BytesIO(data[:cut]))), 1000))
            assert rows_read == list(enumerate(rows, 1))[: len(rows_read)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}] []', "text after its end"),
        ('[{"a": 1} {"a": 2}]', "there is '{' after row 1"),
        ('[{"a": 1},]', "row 2"),
        ('[{"a": 1}', "the file ends"),
        ('[{"a": 1}, {"a": nope}]' + " " * 2000, "row 2"),
        ('[{"a": 1, "a": 2}]', "the key 'a' is twice"),
        ("[" * 100_000, "row 1"),
        (f'["{"x" * 2000}"]', "over 1,000 bytes"),
    ],
)
def test_a_damaged_array_names_the_row(text: str, message: str) -> None:
    with pytest.raises(UnreadableFileError) as caught:
        numbered(text.encode())
    assert message in f"{caught.value.reason} {caught.value.detail}"


def test_two_columns_of_one_name_are_refused_by_name(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    texts = pyarrow.array(["a"])
    twice = pyarrow.table([texts, texts], names=["text", "text"])
    inner = pyarrow.StructArray.from_arrays([texts, texts], names=["role", "role"])
    for name, table in (("text", twice), ("role", pyarrow.table({"messages": inner}))):
        parquet.write_table(table, tmp_path / "rows.parquet")
        with pytest.raises(UserError, match=f"two columns of one name .'{name}'"):
            list(read_records(tmp_path / "rows.parquet"))
    parquet.write_table(twice, tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="two columns of one name"):
        READERS["documents"][0](tmp_path / "rows.parquet")


def test_a_folder_gives_its_arrays_and_not_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "array.json").write_text('[{"text": "one"}, {"text": "two"}]')
    (folder / "lines.json").write_text('{"text": "three"}\n{"text": "four"}\n')
    (folder / "package.json").write_text(json.dumps({"name": "x", "version": "1"}, indent=2))
    (folder / "colours.json").write_text('["red", "green"]')
    (folder / "cities.json").write_text('[{"name": "Norwick"}]')
    report = ReadReport()
    found = [document.text for document in read_documents(TextConfig(paths=(str(folder),)), report)]
    assert found == ["one", "two", "three", "four"]
    assert report.skipped == {"no rows of text": 3}
    with pytest.raises(UserError, match=r"no field .text., only .name., .version."):
        READERS["documents"][0](folder / "package.json")


def test_where_all_rows_are_left_out_the_reasons_are_in_the_message(tmp_path: Path) -> None:
    question = {"role": "user", "content": "a"}
    rows = [{"messages": [question, {"role": "assistant", "content": " "}]}] * 2
    rows.append({"messages": [question, {"role": "assistant", "content": "b"}, question]})
    path = written(tmp_path / "c.jsonl", rows)
    with pytest.raises(UserError) as caught:
        prepare_conversations([str(path)], tmp_path / "out")
    assert "2 left out: an answer is empty (c.jsonl, row 1, c.jsonl, row 2)" in str(caught.value)
    assert "1 left out: it ends without an answer" in str(caught.value)


def test_rows_are_counted_once_however_often_they_are_read(tmp_path: Path) -> None:
    """A small set is read again with a wider held-out split; "80 conversations" were 40 rows."""

    class Counter:
        n = 0

        def advance(self, n: int) -> None:
            self.n += n

    rows = [{"prompt": f"Say {i}", "completion": str(i)} for i in range(8)]
    counter = Counter()
    path = written(tmp_path / "c.jsonl", rows)
    prepare_conversations(
        [str(path)], tmp_path / "out", validation_fraction=0.001, progress=cast(Any, counter)
    )
    assert counter.n == 8


def test_every_example_of_the_page_of_row_formats_is_read_whole() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rows.md").read_text()
    table = [line.split(" | ") for line in page.split("\n") if line.startswith("| ") and "`{" in line]
    assert len(table) == 17
    for name, example, _ in table:
        row = json.loads(example.strip("`"))
        kind = "preference" if row.keys() & {"chosen", "ranking", "completions"} else "conversation"
        found = outcome(kind, row)
        assert not isinstance(found, str), (name, found)
        assert found[0] is not None
        assert not found[1].ignored
        assert fault_of(kind, row) is None


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_keys_next_to_a_documents_text_are_counted(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"d{suffix}", [{"text": "one", "url": "x"}, {"text": "two", "url": "y"}])
    report = ReadReport()
    assert len(list(read_documents(TextConfig(paths=(str(path),)), report))) == 2
    assert report.to_dict()["ignored_keys"] == {"url": 2}


def test_a_damaged_file_of_rows_is_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(3)
    assert {attack(rng, tmp_path) for _ in range(120)} == {"read", "refused"}
