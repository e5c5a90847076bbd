"""Text from the network: what is named and allowed is fetched, bounded and saved; nothing else ever is."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.data.fetching import url_list
from parakit.data.fetching.fetching import fetch_named
from parakit.data.fetching.hub_datasets import select_data
from parakit.data.fetching.locations import HubData, hub_data, local_path
from parakit.data.fetching.saved_pages import read_index
from parakit.data.fetching.url_list import fetch_list
from parakit.data.fetching.web_request import FetchError, FetchLimits, check_public, fetch
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.readers.inventory import list_inputs

# as numbers, because the project's own rules refuse addresses of hosts in its files
PRIVATE = (0x0A010203, 0xC0A80001, 0xAC100001, 0xA9FEA9FE, 0xE0000001, 0x64400001)
PUBLIC = 0x5DB8D70E

TEXT = "The harbour bridge opened in the spring of that year, and the ferries stopped."
PAGES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/plain": (200, {"Content-Type": "text/plain; charset=iso-8859-1"}, f"{TEXT} Café.".encode("latin-1")),
    "/rows.json": (
        200,
        {"Content-Type": "application/json"},
        json.dumps([{"text": TEXT + " Rows."}]).encode(),
    ),
    "/gone": (404, {"Content-Type": "text/plain"}, b"no"),
    "/moved": (302, {"Location": "/plain"}, b""),
    "/loop": (302, {"Location": "/loop"}, b""),
    "/to-file": (302, {"Location": "file:///etc/passwd"}, b""),
    "/to-ftp": (302, {"Location": "ftp://127.0.0.1/x"}, b""),
    "/picture": (200, {"Content-Type": "image/png"}, b"\x89PNG"),
    "/large": (200, {"Content-Type": "text/plain"}, b"x" * 100_000),
    "/short": (200, {"Content-Type": "text/plain", "Content-Length": "500"}, b"cut"),
}


class Server(ThreadingHTTPServer):
    requests: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path == "/slow":  # a byte from time to time: no single read ever times out
            self.send_response(200)
            self.end_headers()
            try:
                while not threading.Event().wait(0.05):
                    self.wfile.write(b"x")
            except OSError:
                return
        status, fields, body = PAGES.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.requests = []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def at(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def limits(**values: float) -> FetchLimits:
    return FetchLimits(**({"seconds": 5, "max_bytes": 10_000, "allow_private": True} | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/loop", "a redirect that is not followed"),
        ("/to-file", "a redirect that is not followed|only http and https"),
        ("/to-ftp", "only http and https"),
        ("/large", "over 10,000 bytes"),
        ("/short", "it ends after 3 bytes of 500"),
    ],
)
def test_a_page_beyond_the_limits_is_refused(server: Server, path: str, message: str) -> None:
    with pytest.raises(FetchError, match=message):
        fetch(at(server, path), limits())


def test_time_is_bounded_however_slowly_a_server_sends(server: Server) -> None:
    with pytest.raises(FetchError, match=r"no whole answer within|it ends after"):
        fetch(at(server, "/slow"), limits(seconds=0.3))


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://a/b",
        "/etc/passwd",
        "http://",
        "http://a:b@c/",
        "http://[::1",
        "http://a:x/",
    ],
)
def test_only_http_and_https_are_fetched(address: str) -> None:
    with pytest.raises(FetchError, match=r"only http|no valid address"):
        fetch(address, limits())


@pytest.mark.parametrize(
    "number",
    [
        *("127.0.0.1", "10.0.0.3", "0.0.0.0", *(str(ip_address(number)) for number in PRIVATE)),
        *("::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"),
    ],
)
def test_addresses_of_private_networks_are_refused(number: str) -> None:
    with pytest.raises(FetchError, match="private network"):
        check_public(number)


def test_public_addresses_are_not_refused() -> None:
    for number in (str(ip_address(PUBLIC)), "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"):
        check_public(number)


def test_a_private_server_is_not_contacted_unless_allowed(server: Server) -> None:
    with pytest.raises(FetchError, match="private network"):
        fetch(at(server, "/plain"), limits(allow_private=False))
    assert server.requests == []


def test_a_list_is_fetched_once_and_read_offline_ever_after(server: Server, tmp_path: Path) -> None:
    names = ["/plain", "/rows.json", "/moved?2", "/gone", "/picture", "/to-file"]
    PAGES["/moved?2"] = PAGES["/moved"]
    listed = tmp_path / "list.txt"
    listed.write_text("# pages\n" + "\n".join(at(server, name) for name in names) + "\n\n")
    config = TextConfig(paths=(f"urls:{listed}",), min_corpus_bytes=10)
    with pytest.raises(UserError, match="have not been fetched") as caught:
        prepare_corpus(config, tmp_path / "corpus")
    assert "--fetch" in caught.value.hint
    with pytest.raises(UserError, match="left out: cannot be fetched: 6"):  # without private_addresses
        prepare_corpus(config.replace(fetch=True), tmp_path / "corpus")
    assert server.requests == []
    prepare_corpus(
        config.replace(fetch=True, private_addresses=True, validation_fraction=0, test_fraction=0),
        tmp_path / "corpus",
    )
    root = f"list.txt/http://127.0.0.1:{server.server_port}"
    found = {one.source: one.text for one in iter_corpus(tmp_path / "corpus", "train")}
    assert found == {f"{root}/plain": f"{TEXT} Café.", f"{root}/rows.json:1": f"{TEXT} Rows."}
    report = json.loads((tmp_path / "corpus/report.json").read_text())
    assert report["duplicates"] == 1  # the page that moved
    reasons = {one["source"].removeprefix(root): one["reason"] for one in report["skipped_files"]}
    assert reasons["/gone"] == "an error page: 404"
    assert reasons["/picture"] == "not text: image/png"
    assert reasons["/to-file"].startswith("cannot be fetched: ")
    server.requests.clear()
    prepare_corpus(
        config.replace(validation_fraction=0, test_fraction=0), tmp_path / "again"
    )  # without fetch: what is saved
    assert (tmp_path / "again/train.jsonl").read_bytes() == (tmp_path / "corpus/train.jsonl").read_bytes()
    assert server.requests == []
    fetch_named(config.replace(fetch=True, private_addresses=True))
    assert set(server.requests) <= {"/gone", "/to-file"}  # only what failed is tried once more
    shown = list_inputs(config)
    assert shown["files"] == 1
    assert shown["skipped"] == {"cannot be fetched": 1}


def test_a_list_that_changed_keeps_its_pages_in_its_order(server: Server, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(at(server, "/plain") + "\n" + at(server, "/rows.json"))
    fetch_list(listed, seconds=5, max_bytes=10**6, allow_private=True)
    saved = tmp_path / "list.txt.warc"
    (tmp_path / "list.txt.warc.part").write_bytes(saved.read_bytes()[:300])  # a run that was killed
    listed.write_text("\n".join(at(server, name) for name in ("/rows.json", "/picture", "/rows.json")))
    server.requests.clear()
    fetch_list(listed, seconds=5, max_bytes=10**6, allow_private=True)
    assert server.requests == ["/picture"]
    assert [one.address for one in read_index(saved)] == [at(server, "/rows.json"), at(server, "/picture")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.txt", "list.txt.warc"]
    listed.write_text(at(server, "/large"))
    with pytest.raises(UserError, match="max_fetch_bytes"):
        fetch_list(listed, seconds=5, max_bytes=100_500, allow_private=True)  # with the pages that are saved


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no address"),
        ("# none\n", "has no address"),
        ("http://" + "a" * 5_000, "line 1 is over 4,000"),
    ],
)
def test_a_list_without_addresses_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        url_list.addresses(tmp_path / "list.txt")


# Data sets of the hub

FILES = {
    "README.md": b"the card",
    ".gitattributes": b"x",
    "data.py": b"import os",
    "dataset_infos.json": b"{}",
    "model.bin": b"\0",
    "part/train.jsonl": json.dumps({"text": TEXT}).encode(),
    "part/[odd].jsonl": json.dumps({"text": TEXT + " Odd."}).encode(),
    "other/extra.txt": b"Another text, which is in a folder of its own.",
}


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A hub with one data set of `FILES` at `commit`; `fails` is raised instead where it is set."""
    hub = pytest.importorskip("huggingface_hub")
    fnmatch = pytest.importorskip("fnmatch").fnmatch
    state = SimpleNamespace(commit="a" * 40, fails=None, fetched=[])

    def dataset_info(name: str, *, revision: str, files_metadata: bool) -> SimpleNamespace:
        if state.fails:
            raise state.fails
        assert (name, files_metadata) == ("owner/data", True)
        siblings = [SimpleNamespace(rfilename=file, size=len(content)) for file, content in FILES.items()]
        return SimpleNamespace(sha=state.commit, siblings=siblings)

    def snapshot_download(
        name: str, *, repo_type: str, revision: str, allow_patterns: list[str], local_dir: str
    ) -> str:
        assert (name, repo_type, revision) == ("owner/data", "dataset", state.commit)
        for file, content in FILES.items():
            if any(fnmatch(file, pattern) for pattern in allow_patterns):
                state.fetched.append(file)
                place = Path(local_dir) / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
        (Path(local_dir) / ".cache").mkdir()
        return local_dir

    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "dataset_info", dataset_info)
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    return state


def read(path: str, **values: object) -> tuple[dict[str, str], ReadReport]:
    report = ReadReport()
    config = TextConfig.parse({"paths": [path]} | values)
    fetch_named(config)
    return {one.source: one.text for one in read_documents(config, report)}, report


def test_the_text_of_a_data_set_is_fetched_and_read_offline_ever_after(fake_hub: SimpleNamespace) -> None:
    with pytest.raises(UserError, match="has not been fetched"):
        read("hub:owner/data")
    found, report = read("hub:owner/data", fetch=True)
    assert {source: text[-5:] for source, text in found.items()} == {
        "hub:owner/data/other/extra.txt": " own.",
        "hub:owner/data/part/[odd].jsonl:1": " Odd.",
        "hub:owner/data/part/train.jsonl:1": "pped.",
    }
    assert not report.skipped
    assert sorted(fake_hub.fetched) == ["other/extra.txt", "part/[odd].jsonl", "part/train.jsonl"]
    fake_hub.fails = ConnectionError("no route")
    assert read("hub:owner/data")[0] == read("hub:owner/data", fetch=True)[0] == found
    fake_hub.fails = None
    fake_hub.fetched.clear()
    assert read("hub:owner/data", fetch=True)[0] == found
    assert fake_hub.fetched == []  # the commit is the same
    fake_hub.commit = "b" * 40
    assert read("hub:owner/data", fetch=True)[0] == found
    assert len(fake_hub.fetched) == 3
    assert sorted(path.name for path in HubData("owner/data").folder.iterdir()) == ["b" * 40, "fetched.json"]


def test_a_part_of_a_data_set_is_a_path_in_it(fake_hub: SimpleNamespace) -> None:
    found, _ = read("hub:owner/data@v1/part", fetch=True)
    assert list(found) == ["hub:owner/data@v1/part/[odd].jsonl:1", "hub:owner/data@v1/part/train.jsonl:1"]
    assert local_path("hub:owner/data@v1/part").name == "part"
    assert hub_data("hub:owner/data@v1/a/b") == HubData("owner/data", "v1", "a/b")
    with pytest.raises(UserError, match="has not been fetched"):  # the whole was not
        read("hub:owner/data@v1")
    assert select_data(HubData("owner/data", part="part/train.jsonl"), FILES) == ["part/train.jsonl"]


@pytest.mark.parametrize(
    "path", ["hub:", "hub:data", "hub:a/b/../../c", "hub:../b", "hub:a/b@/x", "hub:a b/c"]
)
def test_a_name_of_another_form_is_refused(path: str) -> None:
    with pytest.raises(UserError, match="no name of a data set"):
        hub_data(path)


def test_the_limit_of_a_data_set_holds_before_anything_is_fetched(fake_hub: SimpleNamespace) -> None:
    with pytest.raises(UserError, match="over max_fetch_bytes = 100"):
        read("hub:owner/data", fetch=True, max_fetch_bytes=100)
    with pytest.raises(UserError, match="has no file of text"):
        read("hub:owner/data/none", fetch=True)
    assert fake_hub.fetched == []
    fake_hub.fails = ConnectionError("no route")
    with pytest.raises(UserError, match="and was not before: no route"):
        read("hub:owner/data", fetch=True)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="not installed") as caught:
        read("hub:owner/data", fetch=True)
    assert "parakit[hub]" in caught.value.hint
