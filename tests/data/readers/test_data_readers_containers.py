"""Archives and compressed files: what is packed comes out, in any nesting; what is hostile or damaged is named and bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers import lines
from parakit.data.readers.files import read_documents

GOOD = "a good text, long enough to be one"


def read(*paths: Path, **values: object) -> tuple[list[Document], ReadReport]:
    report = ReadReport()
    config = TextConfig.parse({"paths": [str(path) for path in paths]} | values)
    return list(read_documents(config, report)), report


def as_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def as_tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def as_zstandard(content: bytes) -> bytes:
    return pyarrow.compress(content, codec="zstd", asbytes=True)


PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": as_zip,
    "tar": as_tar,
    "tar.gz": lambda members: as_tar(members, "w:gz"),
    "tgz": lambda members: as_tar(members, "w:gz"),
    "tar.bz2": lambda members: as_tar(members, "w:bz2"),
    "tar.xz": lambda members: as_tar(members, "w:xz"),
    "tar.zst": lambda members: as_zstandard(as_tar(members)),
}
COMPRESSORS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": as_zstandard}
plain_texts = st.text(st.characters(codec="utf-8", categories=("L", "Nd", "P")), min_size=1, max_size=40)
trees = st.recursive(
    st.tuples(st.just("text"), plain_texts, st.sampled_from([None, *COMPRESSORS])),
    lambda inner: st.tuples(st.sampled_from(list(PACKERS)), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=6,
)


def pack(tree: tuple, depth: int = 0) -> tuple[str, bytes, list[str]]:
    """The ending, the bytes and the texts of a tree; archives below the third are packed as their first text."""
    if tree[0] == "text":
        _, text, compression = tree
        content = f"text: {text}.\n".encode()
        if compression is None or depth >= 3:
            return "txt", content, [content.decode()]
        return f"txt.{compression}", COMPRESSORS[compression](content), [content.decode()]
    if depth >= 3:
        return pack(tree[1][0], depth)
    packed = [pack(inner, depth + 1) for inner in tree[1]]
    members = {f"m{i}.{ending}": content for i, (ending, content, _) in enumerate(packed)}
    return tree[0], PACKERS[tree[0]](members), [text for _, _, texts in packed for text in texts]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees)
def test_any_nesting_gives_the_same_texts_in_the_same_order(tmp_path: Path, tree: tuple) -> None:
    ending, content, texts = pack(tree)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    documents, report = read(path)
    assert [document.text for document in documents] == texts
    assert report.files == len(texts)
    assert not report.skipped
    path.unlink()


@pytest.mark.parametrize("name", list(COMPRESSORS))
def test_parts_in_a_row_are_one_file_and_a_cut_one_is_named(tmp_path: Path, name: str) -> None:
    one, two = (COMPRESSORS[name]((word * 3_000).encode()) for word in ("first ", "second "))
    (tmp_path / f"a.txt.{name}").write_bytes(one + two)
    (tmp_path / f"cut.txt.{name}").write_bytes((one + two)[:-9])
    (tmp_path / "good.txt").write_text(GOOD)
    documents, report = read(tmp_path, max_document_chars=100_000, deduplicate=False)
    assert documents[0].text == "first " * 3_000 + "second " * 3_000
    assert [
        (source.rpartition("/")[2], reason.partition(":")[0][:7]) for source, reason in report.skipped_files
    ] == [(f"cut.txt.{name}", "damaged")]
    assert documents[-1].text == GOOD


def test_names_that_leave_the_archive_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    names = ["../up.txt", "/root.txt", "a/../../b.txt", "C:\\evil.txt", "..\\up.txt", "ok/inner.txt"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").write_bytes(as_zip({name: GOOD.encode() for name in names}))
    (tmp_path / "in" / "b.tar").write_bytes(as_tar({name: (GOOD + "!").encode() for name in names}))
    before = sorted(tmp_path.rglob("*"))
    documents, report = read(tmp_path / "in")
    assert [document.source for document in documents] == ["in/a.zip/ok/inner.txt", "in/b.tar/ok/inner.txt"]
    assert report.skipped == {"a path that leaves the archive": 10}
    assert sorted(tmp_path.rglob("*")) == before


def test_names_of_any_bytes_are_printable_in_the_report(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("caf\udce9.txt", "\x1b[2J\n.txt", "caf\udce9"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.SYMTYPE if name == "caf\udce9" else tarfile.REGTYPE
            info.size = 0 if info.issym() else len(GOOD)
            archive.addfile(info, io.BytesIO(GOOD.encode()))
    documents, report = read(tmp_path / "a.tar")
    names = [document.source for document in documents] + [source for source, _ in report.skipped_files]
    assert names == ["a.tar/caf\ufffd.txt", "a.tar/\ufffd[2J\ufffd.txt", "a.tar/caf\ufffd"]


def test_links_and_devices_of_a_tar_are_named_and_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("link", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name + ".txt")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("good.txt")
        info.size = len(GOOD)
        archive.addfile(info, io.BytesIO(GOOD.encode()))
    documents, report = read(tmp_path / "a.tar")
    assert [document.text for document in documents] == [GOOD]
    assert report.skipped == {"not a file": 2}


@pytest.mark.parametrize("packer", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_left_out_within_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packer: str
) -> None:
    monkeypatch.setattr(lines, "ALWAYS_ALLOWED", 100_000)
    (tmp_path / "good.txt").write_text(GOOD)
    (tmp_path / f"bomb.{packer}").write_bytes(PACKERS[packer]({"a.txt": b"a good text\n" * 300_000}))
    documents, report = read(tmp_path)
    assert report.skipped == {"expands too much": 1}
    assert documents[-1].text == GOOD
    with pytest.raises(UserError, match="expands too much"):
        read(tmp_path / f"bomb.{packer}")


def test_a_bomb_in_layers_is_charged_to_the_file_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ALWAYS_ALLOWED", 200_000)
    inner = as_zip({"a.txt": b"a good text\n" * 10_000})
    (tmp_path / "bomb.zip").write_bytes(as_zip({f"{i}.zip": inner for i in range(20)}))
    (tmp_path / "good.txt").write_text(GOOD)
    documents, report = read(tmp_path, max_expansion=20, deduplicate=False)
    assert report.skipped == {"expands too much": 2}  # the layer where it shows, and the file around it
    assert sum(document.n_bytes for document in documents) < 400_000


def test_depth_and_number_of_members_are_bounded(tmp_path: Path) -> None:
    content = as_zip({"a.txt": GOOD.encode()})
    for _ in range(3):
        content = as_zip({"inner.zip": content})
    (tmp_path / "deep.zip").write_bytes(content)
    (tmp_path / "many.zip").write_bytes(as_zip({f"{i}.txt": f"{GOOD} {i}".encode() for i in range(20)}))
    documents, report = read(tmp_path, max_members=9)
    assert len(documents) == 9
    assert report.skipped == {"archives nested too deeply": 1, "too many members": 1}


def test_a_directory_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    raw = bytearray(as_zip({"a.txt": GOOD.encode()}))
    raw[-10:-6] = struct.pack("<L", 2**26)
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(UserError, match="too many members"):
        read(tmp_path / "a.zip")


def test_encrypted_and_damaged_members_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    raw = bytearray(as_zip({name: (GOOD + name * 20).encode() for name in ("a.txt", "b.txt", "c.txt")}))
    for start, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(start) + offset] |= 1  # the first member: encrypted
    at = raw.index(b"b.txt") + 9
    raw[at] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(raw)
    documents, report = read(tmp_path / "a.zip")
    assert [document.source for document in documents] == ["a.zip/c.txt"]
    assert report.skipped == {"encrypted": 1, "damaged zip": 1}


def test_what_comes_before_the_damage_of_a_tar_stays(tmp_path: Path) -> None:
    members = {f"{i}.txt": f"{GOOD} {i}".encode() for i in range(4)}
    raw = bytearray(as_tar(members))
    raw[raw.index(b"2.txt\0") + 150] ^= 0xFF  # its checksum
    (tmp_path / "a.tar").write_bytes(raw)
    whole = as_tar({str(i): f"{i}".encode() * 9_000 for i in range(40)}, "w:gz")
    (tmp_path / "cut.tgz").write_bytes(whole[:-400])
    documents, report = read(tmp_path)
    assert [d.source.rpartition("/")[2] for d in documents if "a.tar" in d.source] == ["0.txt", "1.txt"]
    assert report.skipped == {"damaged tar": 1, "damaged gzip": 1}


def test_bytes_decide_where_a_name_lies(tmp_path: Path) -> None:
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (tmp_path / "archive.txt").write_bytes(as_zip({"a.md": GOOD.encode()}))
    (tmp_path / "table.parquet").write_text(GOOD + " and no table")
    (tmp_path / "page").write_text("<!DOCTYPE html><html><body><p>The text of a page.</p></body></html>")
    (tmp_path / "packed.txt").write_bytes(gzip.compress(GOOD.encode() + b" packed"))
    documents, report = read(tmp_path)
    assert sorted(document.text for document in documents) == sorted(
        [GOOD, GOOD + " and no table", GOOD + " packed", "The text of a page."]
    )
    assert report.skipped == {"not text": 1}


def streamed_zip(members: dict[str, bytes]) -> bytes:
    """As a program writes it that cannot go back: sizes follow each member."""

    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError("a stream")

    buffer = Stream()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def stored_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [as_zip, streamed_zip, stored_zip])
def test_the_members_of_a_zip_whose_end_is_missing_are_found_by_their_own_headers(
    tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    members = {f"{i}.txt": f"{GOOD} {i} {'word ' * 500 * i}".encode() for i in range(4)}
    whole = pack({"folder/": b"", "a.png": b"x" * 500, **members})
    place = whole.index(b"PK\x01\x02")  # the list of members
    for end, n_whole in ((place, 4), (whole.rindex(b"3.txt", 0, place) + 60, 3), (len(whole) - 30, 4)):
        (tmp_path / "a.zip").write_bytes(whole[:end])
        (tmp_path / "b.txt").write_text("the next file, which is read whatever this one is")
        documents, report = read(tmp_path)
        found = [document.text for document in documents if "a.zip" in document.source]
        assert found == [content.decode() for content in members.values()][:n_whole]
        reasons = dict(report.skipped_files)
        assert "by their own headers 5 members were found" in reasons[f"{tmp_path.name}/a.zip"]
        assert reasons[f"{tmp_path.name}/a.zip/a.png"] == "not text: .png"
        if n_whole == 3:
            assert reasons[f"{tmp_path.name}/a.zip/3.txt"].startswith("damaged zip")
        assert documents[-1].source.endswith("b.txt")


def test_a_member_of_a_cut_zip_whose_bytes_are_wrong_is_named(tmp_path: Path) -> None:
    whole = stored_zip({"a.txt": GOOD.encode(), "b.txt": f"{GOOD} second".encode()})
    damaged = whole[: whole.index(b"PK\x01\x02")].replace(b"long enough", b"wrong enoug", 1)
    (tmp_path / "a.zip").write_bytes(damaged)
    documents, report = read(tmp_path)
    assert [document.text for document in documents] == [f"{GOOD} second"]
    assert dict(report.skipped_files)[f"{tmp_path.name}/a.zip/a.txt"] == "damaged zip: its checksum differs"
