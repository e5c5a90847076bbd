"""Object storage: corpora and shards written there and read by range; in memory, and long against moto's server of S3."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from parakit.common import remote
from parakit.common.artifacts import open_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.remote import is_remote, list_files, local_view, read_range, upload, uploading
from parakit.common.remote_array import BLOCK_BYTES, RemoteArray
from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.data.documents import Document
from parakit.data.fetching import remote_inputs
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.tokens import TokenizerConfig, train_tokenizer
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.shards import TokenShards, write_shards


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server of S3 on this machine."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.long)])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket, of fsspec's storage in memory and of S3; the cache is a folder of the test."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path / "cache"))
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("server"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = fsspec.filesystem(request.param, skip_instance_cache=True)
    system.mkdir("/bucket" if request.param == "memory" else "bucket")
    yield f"{request.param}://bucket"
    system.rm("bucket", recursive=True)


def put(url: str, **texts: str) -> None:
    from fsspec.core import url_to_fs

    for name, text in texts.items():
        system, path = url_to_fs(f"{url}/{name}")
        system.pipe_file(path, text.encode())


def test_what_is_an_address() -> None:
    assert is_remote("s3://bucket/a")
    assert is_remote("gs://bucket")
    assert not any(map(is_remote, ("a/b", "/a", "C:\\a", "c:/a", "s3:/a", "")))


def test_files_in_a_bucket_are_read_as_those_of_a_folder(bucket: str, tmp_path: Path) -> None:
    texts = {f"{name}.txt": f"The text of {name}. " * 50 for name in ("a", "b", "sub/c")}
    others = {
        ".hidden": "no",
        "x.png": "no",
        "x.dat": "no",
        "made/lineage.json": "{}",
        "made/train.jsonl": "{}",
    }
    put(f"{bucket}/data", **texts, **others)
    for name, text in (texts | others).items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(text)
    found = []
    for path in (str(tmp_path / "data"), f"{bucket}/data"):
        report = ReadReport()
        documents = list(read_documents(TextConfig(paths=(path,)), report))
        found.append((documents, report.to_dict() | {"skipped_files": sorted(report.skipped_files)}))
    assert found[0] == found[1]
    [file] = list_files(f"{bucket}/data/a.txt")
    assert (file.url, file.n_bytes) == (f"{bucket}/data/a.txt", len(texts["a.txt"]))
    [document] = read_documents(TextConfig(paths=(file.url,)), ReadReport())
    assert document.text == texts["a.txt"]
    with pytest.raises(UserError, match="no such file or folder"):
        list(read_documents(TextConfig(paths=(f"{bucket}/other",)), ReadReport()))


def test_a_corpus_is_written_whole_and_streamed(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(30):
        (tmp_path / "in" / f"{i}.txt").write_text(f"Document {i} has words of its own: {i * 7919}. " * 9)
    config = TextConfig(paths=(str(tmp_path / "in"),))
    local = prepare_corpus(config, tmp_path / "corpus")
    url = f"{bucket}/made/corpus"
    for _ in range(2):
        with uploading(url, overwrite=True) as folder:
            prepare_corpus(config, folder)
    assert not Path(folder).exists()
    assert list(iter_corpus(url, "train")) == list(iter_corpus(local, "train"))
    assert open_artifact(url, "corpus").digest == open_artifact(local).digest
    with pytest.raises(UserError, match="exists already"), uploading(url):
        raise AssertionError
    with pytest.raises(UserError, match="not a Parakit artifact"):
        open_artifact(f"{bucket}/made")
    (tmp_path / "wrong").mkdir()
    for name in ("lineage.json", "manifest.json"):
        (tmp_path / "wrong" / name).write_bytes((local / name).read_bytes())
    for split in ("train", "validation", "test"):
        (tmp_path / "wrong" / f"{split}.jsonl").write_text("{}")
    (tmp_path / "wrong" / "report.json").write_text("{}")
    upload(tmp_path / "wrong", f"{bucket}/wrong")
    with pytest.raises(CorruptArtifact, match="has changed"):
        open_artifact(f"{bucket}/wrong")


def test_an_array_is_read_by_range(bucket: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 60_000, 500_000).astype(np.uint16)
    (tmp_path / "array").mkdir()
    (tmp_path / "array" / "values.bin").write_bytes(values.tobytes())
    upload(tmp_path / "array", f"{bucket}/array")
    array = RemoteArray(f"{bucket}/array/values.bin", "uint16", len(values))
    assert array[5] == values[5]
    assert array[-1] == values[-1]
    assert array.n_fetched <= 2 * BLOCK_BYTES
    for index in (
        slice(10, 20),
        slice(40_000, 140_000),
        slice(7, 7),
        slice(100, 50),
        slice(3, 90_000, 1_000),
    ):
        np.testing.assert_array_equal(array[index], values[index])
    places = np.random.default_rng(1).integers(0, 100_000, (4, 25))
    np.testing.assert_array_equal(array[places], values[places])
    assert array.n_fetched < 6 * BLOCK_BYTES
    mask = np.zeros(len(values), bool)
    mask[[3, 70, 499_999]] = True
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[mask], values[mask])
    np.testing.assert_array_equal(np.asarray(array), values)
    with pytest.raises(IndexError):
        array[len(values)]
    assert read_range(f"{bucket}/array/values.bin", [(2, 4), (0, 2)]) == [
        values[1:2].tobytes(),
        values[:1].tobytes(),
    ]


def test_shards_are_read_by_range_without_their_whole(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"Document {i} has words of its own: {i * 7919}. " * 20 for i in range(400)]
    documents = [Document(text, f"{i}.txt", len(text)) for i, text in enumerate(texts)]
    tokenizer = train_tokenizer(texts[:9], TokenizerConfig(kind="char", vocab_size=100))
    local = write_shards({"train": documents}, tokenizer, tmp_path / "shards")
    upload(local, f"{bucket}/shards")
    monkeypatch.setattr(remote, "SMALL_BYTES", 100_000)
    here, there = TokenShards.open(local, "train"), TokenShards.open(f"{bucket}/shards", "train")
    assert isinstance(there.token_ids, RemoteArray)
    one, other = (BatchSource(shards, 64, seed=3).rows(11, 4) for shards in (here, there))
    assert one.input_ids.tolist() == other.input_ids.tolist()
    assert one.target_ids.tolist() == other.target_ids.tolist()
    assert 0 < there.token_ids.n_fetched < (local / "train.bin").stat().st_size
    assert there.n_counted == here.n_counted
    view = local_view(f"{bucket}/shards")
    assert not (view / "train.bin").exists()
    assert (view / "train.offsets.npy").exists()


def test_a_storage_that_fails_is_named(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{bucket}/data", **{name: f"The text of {name}. " * 9 for name in ("a.txt", "b.txt", "c.txt")})
    real = remote_inputs.download

    def fails(url: str, path: Path) -> None:
        real(url.replace("b.txt", "gone.txt"), path)

    monkeypatch.setattr(remote_inputs, "download", fails)
    report = ReadReport()
    documents = list(read_documents(TextConfig(paths=(f"{bucket}/data",)), report))
    assert [document.source for document in documents] == ["data/a.txt", "data/c.txt"]
    assert report.skipped == {"cannot be read": 1}
    with pytest.raises(UserError, match="cannot be reached or read"):
        read_range(f"{bucket}/none", [(0, 1)])


def test_an_unknown_kind_of_storage_is_named() -> None:
    with pytest.raises(UserError, match=r"(?i)nosuch"):
        list_files("nosuch://bucket/a")
    with pytest.raises(UserError, match="no storage"):
        list_files("https://example.org/a")
