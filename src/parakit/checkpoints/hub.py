"""Fetch published models from the Hugging Face hub, and follow the links of its cache.

`fetch_model` downloads data files only: settings, safetensors weights, tokenizers, chat templates. The hub's cache stores
them as links into a blob store; `data_files` follows such links and no others, and `plain_folder` is a temporary folder
with the same files as regular ones. Left out: uploading, and other hubs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from parakit.checkpoints.folder_safety import PICKLES, inner_link, read_small_json
from parakit.checkpoints.multimodal import language_model_config
from parakit.checkpoints.registry import architecture_of, as_embedder
from parakit.checkpoints.safetensors_io import INDEX, SINGLE
from parakit.checkpoints.sentence_encoders.pooling_files import is_sentence_file, names_embedder
from parakit.common.errors import UserError

_PREFIX = "hub:"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
CARD = "README.md"  # the model card, with its licence
_SUFFIXES = {".json", ".model", ".spm", ".txt", ".jinja"}
_SHARD = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True)
class FetchedModel:
    """A model of the hub in the local cache, and the commit that was fetched."""

    folder: Path
    revision: str


def hub_name(source: str) -> str | None:
    """The name on the hub, or None where `source` is a path: `hub:ORG/NAME` is always a name, `ORG/NAME` unless such a
    path exists.
    """
    if source.startswith(_PREFIX):
        name = source.removeprefix(_PREFIX)
        if not _NAME.fullmatch(name):
            raise UserError(f"{source}: is not a name on the hub", "names are written hub:ORGANISATION/MODEL")
        return name
    return source if _NAME.fullmatch(source) and not os.path.lexists(source) else None


def fetch_model(name: str, revision: str | None = None) -> FetchedModel:
    """Fetch the model `name` ("org/model") into the hub's cache, or find it there when there is no network.

    Raises `UserError` with a hint: without the extra `hub`, without network, for a missing or gated model, and for one
    whose weights are pickled.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise UserError(
            f"{name}: fetching from the hub needs a package that is not installed", "pip install parakit[hub]"
        ) from None
    failures = (OSError, errors.HTTPError)
    try:
        info = hub.model_info(name, revision=revision)
        files = select_files(name, [file.rfilename for file in info.siblings or ()])
        settings = [file for file in files if not _SHARD.fullmatch(file)]
        _check_settings(Path(hub.snapshot_download(name, revision=info.sha, allow_patterns=settings)), name)
        folder = hub.snapshot_download(name, revision=info.sha, allow_patterns=files)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise _not_found(name, revision, isinstance(error, errors.GatedRepoError)) from None
    except failures as error:
        try:  # no network: what was fetched before is in the cache
            folder = hub.snapshot_download(name, revision=revision, local_files_only=True)
        except failures:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{name}: cannot be fetched, and was not before: {reason}",
                "check the network and HF_HUB_OFFLINE, or fetch the folder elsewhere and name it",
            ) from None
    return FetchedModel(Path(folder), Path(folder).name)


def _check_settings(folder: Path, name: str) -> None:
    """Refuse an unknown architecture before its weights, which may be many gigabytes, are fetched."""
    where = folder / "config.json"
    if not where.is_file():
        raise UserError(f"{name}: has no config.json", "choose a model in the Hugging Face layout")
    hf_config = language_model_config(read_small_json(where), where)
    hf_config = as_embedder(hf_config, f"{name}/config.json") if names_embedder(folder) else hf_config
    architecture, _ = architecture_of(hf_config, f"{name}/config.json")
    architecture.read_settings(hf_config, f"{name}/config.json")


def _not_found(name: str, revision: str | None, gated: bool) -> UserError:
    if gated:
        return UserError(
            f"{name}: is gated by its publisher",
            "request access on the model's page, then run `hf auth login`",
        )
    what = f"has no revision {revision!r}" if revision else "is not on the hub, or is private"
    return UserError(f"{name}: {what}", "check the name; a private one needs `hf auth login`")


def select_files(name: str, files: Sequence[str]) -> list[str]:
    """Which files of a model to fetch: settings, weights in safetensors, tokenizers. Raises `UserError` where the
    weights are pickled, or there are none.
    """
    weights = [file for file in files if _SHARD.fullmatch(file)]
    if not weights:
        pickled = [file for file in files if PurePosixPath(file).suffix.lower() in PICKLES]
        if pickled:
            raise UserError(
                f"{name}: its weights are pickled ({pickled[0]}), and a pickle runs code when it is read",
                "choose a revision or another model with model.safetensors",
            )
        raise UserError(f"{name}: has no {SINGLE}", "choose a model whose weights are safetensors")
    return sorted(file for file in files if _is_data(file))


@contextlib.contextmanager
def plain_folder(source: Path) -> Iterator[Path]:
    """The data files of `source` as regular files in a temporary folder, for the block; `source` itself where nothing in
    it is a link. Hard links where the file system allows them, else copies.
    """
    if not any(path.is_symlink() for path in source.rglob("*")):
        yield source
        return
    folder = Path(tempfile.mkdtemp(prefix="parakit-import-"))
    try:
        for name, file in data_files(source).items():
            copy = folder / name
            copy.parent.mkdir(exist_ok=True)
            try:
                os.link(file, copy)
            except OSError:
                shutil.copyfile(file, copy)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def data_files(source: Path) -> dict[str, Path]:
    """Name and resolved path of each data file of a model folder. A link may lead into the folder itself, or, from a
    snapshot in the hub's cache, into its blob store; any other is a `UserError`.
    """
    in_cache = source.parent.name == "snapshots" and (source.parent.parent / "blobs").is_dir()
    root = (source.parent.parent if in_cache else source).resolve()
    files = {}
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_dir() or not _is_data(name):
            continue
        files[name] = inner_link(path, root)
        if not files[name].is_file():
            raise UserError(f"{path}: is not a plain file", "remove it from the model folder")
    return files


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    if is_sentence_file(name):
        return True
    return len(path.parts) == 1 and (
        path.suffix in _SUFFIXES or name in (INDEX, CARD) or _SHARD.fullmatch(name) is not None
    )
