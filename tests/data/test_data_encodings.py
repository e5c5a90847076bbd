"""Text in any common encoding is read to the letter, counted by encoding, and never with replacement characters."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.readers.rows import read_records
from tests.data.sentences import ENCODED, SENTENCES

UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
letters = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co"), exclude_characters="\ufeff"), min_size=1
)


def read(path: Path, **settings: object) -> tuple[list[Document], ReadReport]:
    report = ReadReport()
    return list(read_documents(TextConfig.parse({"paths": [str(path)]} | settings), report)), report


@pytest.mark.parametrize(
    ("language", "encoding"), [*ENCODED, *((one, e) for one in SENTENCES for e in UNICODE)]
)
def test_a_sentence_in_any_encoding_is_read_to_the_letter(
    tmp_path: Path, language: str, encoding: str
) -> None:
    text = SENTENCES[language] * 3 + "\n"
    for name, raw in {
        "a.txt": text.encode(encoding),
        "a.txt.gz": gzip.compress(text.encode(encoding)),
    }.items():
        (tmp_path / name).write_bytes(raw)
        documents, report = read(tmp_path / name)
        assert "".join(document.text for document in documents) == text
        assert sum(report.encodings.values()) == 1
        assert report.bad_bytes == 0
        assert bool(report.guessed_files) == (encoding not in UNICODE)


def test_what_is_beyond_ascii_may_come_late_in_a_file(tmp_path: Path) -> None:
    text = "plain lines of a log\n" * 80_000 + "Grüße aus Köln\n"
    (tmp_path / "a.log").write_bytes(text.encode("cp1252"))
    documents, report = read(tmp_path / "a.log", max_document_chars=10_000_000)
    assert documents[0].text == text
    assert report.guessed_files == {"a.log": "cp1252"}


@given(letters, st.sampled_from([*UNICODE[1:3], "utf-32"]))
def test_any_text_with_a_byte_order_mark_is_read_to_the_letter(
    tmp_path: Path, text: str, encoding: str
) -> None:
    text = f"A {text} b"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    documents, report = read(tmp_path / "a.txt", newlines="keep")
    assert "".join(document.text for document in documents) == text
    assert report.bad_bytes == 0


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_text_or_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(b"begins as text\n" + raw)
    try:
        documents, report = read(tmp_path / "a.txt")
    except UserError:
        return
    n_replaced = sum(document.text.count("\ufffd") for document in documents)
    assert n_replaced <= report.bad_bytes + raw.decode("utf-8", "ignore").count("\ufffd")


def test_a_chosen_encoding_overrules_the_guess_but_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes("Führung über Maß".encode("cp850"))
    (tmp_path / "new.txt").write_bytes("Führung über Maß".encode())
    documents, report = read(tmp_path, encoding="cp850")
    assert [document.text for document in documents] == ["Führung über Maß"] * 2
    assert report.encodings == {"cp850": 1, "utf-8": 1}
    with pytest.raises(UserError, match="no encoding of text"):
        read(tmp_path, encoding="klingon")
    with pytest.raises(UserError, match="no encoding of text"):
        read(tmp_path, encoding="base64")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-32", "shift_jis"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_rows_come_through_the_same_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, encoding: str
) -> None:
    text = SENTENCES["Japanese" if encoding == "shift_jis" else "German"]
    row = json.dumps({"text": text}, ensure_ascii=False)
    (tmp_path / name).write_bytes((f"[{row}]" if name == "a.json" else f"{row}\n").encode(encoding))
    assert [row for _, row in read_records(tmp_path / name)] == [{"text": text}]
    guessed = not encoding.startswith("utf")
    assert ("recognized from its letters" in "".join(capsys.readouterr())) == guessed
