"""Every kind of file, plain, gzipped and in folders, gives its text exactly; the report says the rest."""

import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.readers.inputs import input_digest

texts = st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1)


def read(*paths: Path, **settings: object) -> tuple[list[Document], ReadReport]:
    report = ReadReport()
    config = TextConfig.parse({"paths": [str(path) for path in paths]} | settings)
    return list(read_documents(config, report)), report


def as_parquet(texts: list[str | None]) -> bytes:
    buffer = io.BytesIO()
    table = pyarrow.table({"id": range(len(texts)), "text": pyarrow.array(texts, pyarrow.string())})
    parquet.write_table(table, buffer, row_group_size=3)
    return buffer.getvalue()


@given(st.lists(texts.filter(lambda text: not text.isspace()), min_size=1, max_size=8))
def test_rows_of_json_lines_and_parquet_are_documents_to_the_letter(tmp_path: Path, rows: list[str]) -> None:
    lines = "\n".join(json.dumps({"text": row}, ensure_ascii=False) for row in rows).encode()
    for name, raw in {
        "a.jsonl": lines,
        "a.ndjson": lines + b"\n",
        "a.parquet": as_parquet([*rows, None]),
    }.items():
        for path, content in ((tmp_path / name, raw), (tmp_path / (name + ".gz"), gzip.compress(raw))):
            path.write_bytes(content)
            documents, report = read(path)
            assert [document.text for document in documents] == rows
            assert [document.source for document in documents] == [
                f"{path.name}:{k + 1}" for k in range(len(rows))
            ]
            assert report.documents == len(rows)
            assert report.empty_rows == ("parquet" in name)


@given(st.binary(min_size=1, max_size=300).map(lambda raw: "déjà vu, long enough\n".encode() * 200 + raw))
def test_a_text_file_in_utf8_joined_again_is_the_file_with_bad_bytes_replaced(
    tmp_path: Path, raw: bytes
) -> None:
    raw = raw.replace(b"\0", b"")
    path = tmp_path / "a.txt"
    path.write_bytes(raw)
    documents, report = read(path, max_document_chars=50, newlines="keep")
    assert sum(document.n_bytes for document in documents) == report.bytes == len(raw)
    expected = "".join(
        "\ufffd" if "\udc80" <= c <= "\udcff" else c for c in raw.decode("utf-8", "surrogateescape")
    )
    assert "".join(document.text for document in documents) == expected
    assert report.bad_bytes == sum("\udc80" <= c <= "\udcff" for c in raw.decode("utf-8", "surrogateescape"))


def test_bad_bytes_are_counted_by_file(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("a good file")
    (tmp_path / "torn.txt").write_bytes("un café, une forêt, et voilà".encode() + b"\xe9, \xff")
    documents, report = read(tmp_path)
    assert report.bad_bytes == 2
    assert report.bad_files == {f"{tmp_path.name}/torn.txt": 2}
    assert documents[1].text == "un café, une forêt, et voilà\ufffd, \ufffd"
    assert documents[1].n_bytes == 35


def test_windows_line_ends_and_the_byte_order_mark_go_unless_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    documents, report = read(tmp_path / "a.txt")
    assert [(d.text, d.n_bytes) for d in documents] == [("one\ntwo\rthree\n", 14)]
    assert report.windows_newlines == 1
    documents, report = read(tmp_path / "a.txt", newlines="keep")
    assert documents[0].text == "one\r\ntwo\rthree\n"
    assert report.windows_newlines == 0


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    folder = tmp_path / "mixed"
    for name in (
        "b/deep/x.py",
        "a.md",
        "README",
        "b.txt",
        "B.txt",
        "b/notes.txt",
        ".git/config.txt",
        "drafts/d.txt",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the text of {name}")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\0")
    (folder / "empty.txt").write_text("")
    (folder / "blank.txt").write_text(" \n\n")
    (folder / "tool.bin").write_bytes(bytes(range(256)))
    (folder / "tool").write_bytes(bytes(range(256)))
    (folder / "made").mkdir()
    (folder / "made" / "lineage.json").write_text("{}")
    (folder / "made" / "train.jsonl").write_text('{"text": "made by us"}')
    return folder


def test_a_folder_is_read_by_name_and_what_is_left_out_has_a_reason(mixed: Path) -> None:
    documents, report = read(mixed, exclude=["drafts/*"])
    names = ["B.txt", "README", "a.md", "b/deep/x.py", "b/notes.txt", "b.txt"]
    assert [document.source for document in documents] == [f"mixed/{name}" for name in names]
    assert [document.text for document in documents] == [f"the text of {name}" for name in names]
    assert report.skipped == {
        "hidden": 1,
        "excluded": 1,
        "not text": 2,
        "empty": 2,
        "binary": 1,
        "a Parakit artifact": 1,
    }
    assert ("mixed/tool", "binary: it has NUL bytes") in report.skipped_files
    assert report.files == 6


def test_patterns_exclude_folders_and_names(mixed: Path) -> None:
    assert len(read(mixed, exclude=["b/", "*.txt"])[0]) == 2  # README and a.md


def test_links_that_loop_or_lead_nowhere_do_no_harm(mixed: Path) -> None:
    before = [document.text for document in read(mixed)[0]]
    (mixed / "b" / "loop").symlink_to(mixed)
    (mixed / "zz").symlink_to(mixed / "b")
    (mixed / "zz.txt").symlink_to(mixed / "b.txt")
    (mixed / "nowhere.txt").symlink_to(mixed / "none")
    os.mkfifo(mixed / "pipe.txt")
    documents, report = read(mixed)
    assert [document.text for document in documents] == before
    assert report.skipped["already read"] == 3
    assert report.skipped["not a file"] == 2


def test_a_file_named_twice_is_read_once(mixed: Path) -> None:
    assert len(read(mixed / "b.txt", mixed / "b.txt")[0]) == 1
    assert len(read(mixed / "b.txt", mixed)[0]) == len(read(mixed)[0])


def test_a_named_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "story.xyz").write_text("Once upon a time")
    assert read(tmp_path / "story.xyz")[0][0].text == "Once upon a time"


def test_the_input_digest_follows_names_and_contents_only(mixed: Path) -> None:
    config = TextConfig(paths=(str(mixed),))
    before = input_digest(config)
    os.utime(mixed / "b.txt", (0, 0))
    (mixed / "photo.jpg").write_bytes(b"another")
    assert input_digest(config) == before
    (mixed / "b.txt").write_text("another text")
    assert input_digest(config) != before


def make_empty_folder(path: Path) -> None:
    path.mkdir()


def make_folder_of_nothing(path: Path) -> None:
    path.mkdir()
    (path / "a.jpg").write_bytes(b"x")
    (path / ".hidden").write_bytes(b"x")


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("none.txt", lambda path: None, "no such file"),
        ("folder", make_empty_folder, "the folder is empty"),
        ("folder", make_folder_of_nothing, "no text found; left out: hidden: 1, not text: 1"),
        ("a.txt", lambda path: path.write_bytes(b""), "empty"),
        ("a.txt", lambda path: path.write_bytes(b" \n \n"), "empty"),
        ("a.jsonl", lambda path: path.write_bytes(b'{"text": ""}\n'), "empty"),
        ("a.txt", lambda path: path.write_bytes(b"\x7fELF" + bytes(99)), "binary (it has NUL bytes)"),
        ("a.txt", lambda path: path.write_bytes(bytes(range(1, 256)) * 9), "binary"),
        ("a.txt.gz", lambda path: path.write_bytes(b"no gzip"), "damaged gzip"),
        ("a.txt.gz", lambda path: path.write_bytes(gzip.compress(b"text" * 999)[:-20]), "damaged gzip"),
        ("a.parquet", lambda path: path.write_bytes(b"PAR1 no parquet"), "damaged Parquet"),
        ("a.parquet", lambda path: path.write_bytes(b""), "empty"),
        ("pipe", os.mkfifo, "is a pipe"),
    ],
)
def test_a_named_path_that_cannot_be_read_is_an_error_with_a_way_out(
    tmp_path: Path, name: str, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    assert says in error.value.message
    assert str(tmp_path) in error.value.message
    assert error.value.hint


def test_a_misspelt_path_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    with pytest.raises(UserError, match=r"did you mean .*books"):
        read(tmp_path / "boks")


def test_a_missing_path_is_found_before_anything_is_read(mixed: Path) -> None:
    config = TextConfig(paths=(str(mixed), str(mixed / "none")))
    with pytest.raises(UserError, match="none: no such file"):
        next(read_documents(config, ReadReport()))


def test_memory_is_bounded_by_documents_and_not_by_files(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    line = b"a line of some text that goes on for a while, and then ends\n"
    with open(path, "wb") as file:
        for _ in range(20):
            file.write(line * 10_000)  # 12 MB in all
    config = TextConfig(paths=(str(path),))
    tracemalloc.start()
    n = sum(document.n_bytes for document in read_documents(config, ReadReport()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == path.stat().st_size
    assert peak < 9e6


def test_real_books_are_read_whole(public_data: Callable[[str], Path]) -> None:
    folder = public_data("gutenberg")
    documents, report = read(folder, exclude=["SOURCE.txt"])
    assert report.files == report.headers_stripped == 28
    assert report.bad_bytes == 0
    assert not report.skipped.keys() - {"excluded"}
    text = "".join(document.text for document in documents)
    assert "PROJECT GUTENBERG EBOOK" not in text
    assert "\r\n" not in text
    emma = (
        gzip.decompress((folder / "Emma_158.txt.gz").read_bytes()).decode("utf-8-sig").replace("\r\n", "\n")
    )
    book = emma.split("GUTENBERG EBOOK EMMA ***\n")[1].split("*** END OF")[0]
    assert "".join(d.text for d in documents if d.source.endswith("Emma_158.txt.gz")) == book
    assert all(len(document.text) <= 20_000 for document in documents)
