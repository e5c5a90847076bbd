"""Crawls: pages and texts of WARC and WET records, in every way that servers encode them, whole and damaged."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.readers.formats import warc
from tests.data.readers.test_data_readers_containers import read

pytest.importorskip("resiliparse")
pytest.importorskip("trafilatura")

TEXT = "Zażółć gęślą jaźń, pójdź tędy."
PAGE = f"<html><body><p>{TEXT}</p></body></html>".encode("iso-8859-2")
HTTP = "application/http; msgtype=response"


def record(kind: str, address: str, body: bytes, content_type: str = HTTP) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {address}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n"


def http(
    body: bytes, *fields: str, status: str = "200 OK", kind: str = "text/html; charset=iso-8859-2"
) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", *fields, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    parts = [body[i : i + 10] for i in range(0, len(body), 10)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


RECORDS = [
    record("warcinfo", "", b"software: x", "application/warc-fields"),
    record("request", "http://a/1", b"GET / HTTP/1.1\r\n\r\n"),
    record("response", "http://a/1", http(PAGE)),
    record("response", "http://a/2", http(chunked(PAGE), "Transfer-Encoding: chunked")),
    record("response", "http://a/3.php?x=..", http(gzip.compress(PAGE), "Content-Encoding: gzip")),
    record("response", "http://a/4", http(zlib.compress(PAGE), "Content-Encoding: deflate")),
    record("response", "http://a/none", http(PAGE, status="404 Not Found")),
    record("response", "http://a/i.png", http(b"\x89PNG", kind="image/png")),
    record("conversion", "http://a/wet", "plain text é".encode(), "text/plain"),
]


@pytest.mark.parametrize("name", ["a.warc.gz", "a.warc", "a.dump"])
def test_the_pages_and_texts_of_a_crawl_are_read_each_under_its_address(tmp_path: Path, name: str) -> None:
    pack = gzip.compress if name.endswith(".gz") else bytes
    (tmp_path / name).write_bytes(b"".join(pack(each) for each in RECORDS))
    documents, report = read(tmp_path, deduplicate=False)
    folder = f"{tmp_path.name}/{name}"
    expected = [(f"{folder}/http://a/{n}", TEXT) for n in ("1", "2", "3.php?x=..", "4")]
    assert [(d.source, d.text.strip()) for d in documents] == [
        *expected,
        (f"{folder}/http://a/wet", "plain text é"),
    ]
    assert report.skipped == {"an error page": 1, "not text": 1}


def test_a_crawl_that_is_cut_keeps_what_came_before(tmp_path: Path) -> None:
    raw = b"".join(gzip.compress(each) for each in RECORDS)
    (tmp_path / "a.warc.gz").write_bytes(raw[:-300])
    (tmp_path / "b.warc").write_bytes(b"".join(RECORDS)[:-20])
    (tmp_path / "c.warc").write_bytes(RECORDS[2] + b"no record\r\n" + RECORDS[3])
    documents, report = read(tmp_path, deduplicate=False)
    assert {d.source.split("/")[1] for d in documents} == {"a.warc.gz", "b.warc", "c.warc"}
    assert report.skipped["damaged gzip"] == 1
    assert report.skipped["damaged WARC"] == 2


def test_records_and_headers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warc, "MAX_RECORD", 2_000)
    long = record("conversion", "http://a/long", b"x" * 3_000, "text/plain")
    packed = record("response", "http://a/bomb", http(gzip.compress(bytes(10**6)), "Content-Encoding: gzip"))
    (tmp_path / "a.warc").write_bytes(long + packed + RECORDS[2])
    documents, report = read(tmp_path)
    assert [d.text.strip() for d in documents] == [TEXT]
    assert report.skipped["a record is too long"] == 1
    (tmp_path / "b.warc").write_bytes(b"WARC/1.0\r\n" + b"A: b\r\n" * 20_000)
    with pytest.raises(UserError, match="a header is over"):
        read(tmp_path / "b.warc")
    (tmp_path / "c.warc").write_bytes(b"WARC/1.0\r\nContent-Length: 9" + b"9" * 30 + b"\r\n\r\nx")
    with pytest.raises(UserError, match="without a length"):
        read(tmp_path / "c.warc")
