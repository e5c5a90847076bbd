"""Names on the hub: what is requested, what is refused, and the cache's links. No test touches a network."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest

from parakit.checkpoints.hub import data_files, fetch_model, hub_name, plain_folder, select_files
from parakit.common import UserError

hub = pytest.importorskip("huggingface_hub")
errors = pytest.importorskip("huggingface_hub.errors")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SIZES = {
    **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    "max_position_embeddings": 16,
}
FILES = {
    "config.json": json.dumps({"model_type": "bert", "vocab_size": 9, **SIZES}).encode(),
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "spiece.model": b"pieces",
    "chat_template.jinja": b"{}",
    "vocab.txt": b"a",
    "1_Pooling/config.json": b"{}",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"import os",
    "README.md": b"# a model",
    "onnx/model.onnx": b"onnx",
    "original/consolidated.safetensors": b"more weights",
}
DATA = {
    *(
        "config.json",
        "README.md",
        "model.safetensors",
        "tokenizer.json",
        "spiece.model",
        "chat_template.jinja",
    ),
    *("vocab.txt", "1_Pooling/config.json"),
}


def cache(root: Path, files: dict[str, bytes]) -> Path:
    """A snapshot as the hub's cache keeps it: links into its blob store."""
    home = root / "models--org--model"
    snapshot = home / "snapshots" / COMMIT
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    for number, (name, content) in enumerate(files.items()):
        blob = home / "blobs" / f"{number:064x}"
        blob.write_bytes(content)
        place = snapshot / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(blob, place.parent))
    return snapshot


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict]]:
    """`fake_hub(files)` puts a hub in place that holds one model; it returns the requests."""

    def install(files: dict[str, bytes], error: Exception | None = None, cached: bool = False) -> list[dict]:
        requests: list[dict] = []

        def model_info(name: str, *, revision: str | None = None) -> SimpleNamespace:
            requests.append({"list": name, "revision": revision})
            if error:
                raise error
            return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=file) for file in files])

        def snapshot_download(name, *, revision=None, allow_patterns=None, local_files_only=False) -> str:
            requests.append(
                {"fetch": name, "revision": revision, "files": allow_patterns, "local": local_files_only}
            )
            if local_files_only and not cached:
                raise errors.LocalEntryNotFoundError("not in the cache, and offline")
            chosen = {
                file: data
                for file, data in files.items()
                if allow_patterns is None or any(fnmatch(file, pattern) for pattern in allow_patterns)
            }
            home = tmp_path / "cache"
            shutil.rmtree(home, ignore_errors=True)
            return str(cache(home, chosen))

        monkeypatch.setattr(hub, "model_info", model_info)
        monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
        return requests

    return install


def http_error(kind: str) -> Exception:
    """An error of the hub's, made without the answer of a server."""
    error = getattr(errors, kind)
    return error.__new__(error)


def test_only_data_is_fetched(fake_hub: Callable[..., list[dict]]) -> None:
    requests = fake_hub(FILES)
    fetched = fetch_model("org/model", "main")
    assert fetched.revision == COMMIT
    assert {
        path.relative_to(fetched.folder).as_posix() for path in fetched.folder.rglob("*") if path.is_file()
    } == DATA
    assert requests[0] == {"list": "org/model", "revision": "main"}
    assert [set(one["files"]) for one in requests[1:]] == [DATA - {"model.safetensors"}, DATA]
    assert {one["revision"] for one in requests[1:]} == {COMMIT}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b'{"model_type": "mamba"}', "a model of type 'mamba'"),
        (b"[]", "not a mapping"),
        (None, "no config.json"),
    ],
)
def test_an_unknown_architecture_is_refused_before_its_weights_are_fetched(
    config: bytes | None, message: str, fake_hub: Callable[..., list[dict]]
) -> None:
    files = {name: data for name, data in {**FILES, "config.json": config}.items() if data is not None}
    requests = fake_hub(files)
    with pytest.raises(UserError, match=message):
        fetch_model("org/model")
    assert "model.safetensors" not in requests[-1]["files"]


def test_a_model_whose_weights_are_pickled_is_refused_before_anything_is_fetched(
    fake_hub: Callable[..., list[dict]],
) -> None:
    requests = fake_hub({"config.json": b"{}", "pytorch_model.bin": b"x"})
    with pytest.raises(UserError, match=r"pickled \(pytorch_model\.bin\)"):
        fetch_model("org/model")
    assert [next(iter(one)) for one in requests] == ["list"]
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        select_files("org/model", ["config.json", "original/consolidated.safetensors"])


def test_shards_are_weights_too() -> None:
    files = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert select_files("org/model", [*files, "adapter_model.safetensors"]) == files


@pytest.mark.parametrize(
    ("error", "message", "way_out"),
    [
        (http_error("GatedRepoError"), "is gated by its publisher", "hf auth login"),
        (http_error("RepositoryNotFoundError"), "is not on the hub", "check the name"),
        (http_error("RevisionNotFoundError"), "is not on the hub", "check the name"),
        (
            errors.HTTPError("no address for the name"),
            "no address for the name",
            "fetch the folder elsewhere",
        ),
        (
            errors.OfflineModeIsEnabled("offline mode is enabled"),
            "cannot be fetched, and was not before: offline",
            "network",
        ),
        (ConnectionError("no route to host"), "cannot be fetched", "HF_HUB_OFFLINE"),
    ],
)
def test_each_obstacle_has_a_way_out(
    error: Exception, message: str, way_out: str, fake_hub: Callable[..., list[dict]]
) -> None:
    fake_hub(FILES, error)
    with pytest.raises(UserError, match=message) as caught:
        fetch_model("org/model")
    assert way_out in caught.value.hint


def test_without_network_the_cache_serves(fake_hub: Callable[..., list[dict]]) -> None:
    requests = fake_hub(FILES, ConnectionError("no route"), cached=True)
    assert fetch_model("org/model").revision == COMMIT
    assert requests[-1]["local"] is True


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="not installed") as error:
        fetch_model("org/model")
    assert "parakit[hub]" in error.value.hint


def test_names_and_paths_are_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name("org/model-1.5_b") == "org/model-1.5_b"
    assert hub_name("hub:org/model") == "org/model"
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert hub_name("org/model") is None
    assert hub_name("hub:org/model") == "org/model"
    for path in ("model", "/org/model", "./org/other", "org/model/more", "../up"):
        assert hub_name(path) is None
    for name in ("hub:model", "hub:../x", "hub:org/model/x"):
        with pytest.raises(UserError, match="not a name on the hub"):
            hub_name(name)


def test_links_of_the_cache_become_plain_files_for_a_while(tmp_path: Path) -> None:
    snapshot = cache(tmp_path, FILES)
    with plain_folder(snapshot) as plain:
        found = {path.relative_to(plain).as_posix(): path for path in plain.rglob("*") if path.is_file()}
        assert set(found) == DATA
        assert not any(path.is_symlink() for path in found.values())
        assert found["model.safetensors"].read_bytes() == b"weights"
    assert not plain.exists()
    assert (snapshot / "model.safetensors").read_bytes() == b"weights"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    plain, snapshot = tmp_path / "plain", cache(tmp_path / "cache", FILES)
    plain.mkdir()
    for folder in (plain, snapshot):
        (folder / "generation_config.json").symlink_to(tmp_path / "secret.json")
        with pytest.raises(UserError, match="outside the model folder"):
            data_files(folder)


def test_a_folder_of_plain_files_is_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with plain_folder(tmp_path) as plain:
        assert plain == tmp_path
    assert (tmp_path / "config.json").exists()
