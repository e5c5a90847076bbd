"""Fetching a data set of the Hugging Face hub: its files of text and rows alone, never its programs, which are not run
either.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Iterable
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import write_json_atomic
from parakit.common.formatting import byte_size
from parakit.common.progress import log
from parakit.data.fetching.locations import HubData
from parakit.data.readers.formats.registry import split_name
from parakit.data.readers.skip_reasons import RUBBISH

_CARD = "readme.md"
_SETTINGS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")


def fetch_dataset(data: HubData, max_bytes: int) -> None:
    """Fetch the files of a data set, unless those of the same commit are saved.

    Raises `UserError`: without the extra `hub`, for a data set that is missing, gated, without text, or over `max_bytes`,
    and without network where nothing is saved; where something is, that stays.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise UserError(
            f"{data.name}: fetching from the hub needs a package that is not installed",
            "pip install 'parakit[hub]'",
        ) from None
    try:
        info = hub.dataset_info(data.name, revision=data.revision, files_metadata=True)
        commit, sizes = str(info.sha), {one.rfilename: one.size or 0 for one in info.siblings or ()}
        saved = data.saved()
        if saved is not None and commit in saved.parts:
            return
        files = select_data(data, sizes)
        _check(data, files, sum(sizes[name] for name in files), max_bytes)
        new = data.folder / commit
        patterns = [glob.escape(name) for name in files]
        hub.snapshot_download(
            data.name, repo_type="dataset", revision=commit, allow_patterns=patterns, local_dir=str(new)
        )
        shutil.rmtree(new / ".cache", ignore_errors=True)
        _finish(data, new)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        gated = isinstance(error, errors.GatedRepoError)
        raise UserError(
            f"{data.name}: is gated by its publisher"
            if gated
            else f"{data.name}@{data.revision}: is not there",
            "request access on its page, then run `hf auth login`"
            if gated
            else "check the name and the revision; a private one needs `hf auth login`",
        ) from None
    except UserError:
        raise
    except (
        OSError,
        errors.HTTPError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:  # the last three: of a wrong answer
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        if data.saved() is None:
            raise UserError(
                f"{data.name}: cannot be fetched, and was not before: {reason}",
                "check the network and HF_HUB_OFFLINE, or fetch its files elsewhere and name their folder",
            ) from None
        log(f"{data.name}: cannot be fetched ({reason}); what was saved before is read")


def select_data(data: HubData, names: Iterable[str]) -> list[str]:
    """The files of text and rows below the part that is named, without the data set's card, settings and program."""
    program = f"{data.name.rpartition('/')[2]}.py".lower()
    chosen = []
    for name in names:
        folders, own = name.split("/")[:-1], name.rpartition("/")[2]
        inside = not data.part or name == data.part or name.startswith(f"{data.part}/")
        is_hidden = any(part.startswith(".") or part in RUBBISH for part in (*folders, own))
        no_text = own.lower() in (_CARD, program, *_SETTINGS)
        if inside and not is_hidden and not no_text and split_name(own)[0] is not None:
            chosen.append(name)
    return sorted(chosen)


def _check(data: HubData, files: list[str], n_bytes: int, max_bytes: int) -> None:
    where = f"{data.name}/{data.part}" if data.part else data.name
    if not files:
        raise UserError(f"{where}: has no file of text or rows", "check the name of the folder or file in it")
    if n_bytes > max_bytes:
        raise UserError(
            f"{where}: its {len(files):,} files have {byte_size(n_bytes)}, over max_fetch_bytes = {max_bytes:,}",
            "raise max_fetch_bytes, or name a folder or file of it: hub:OWNER/NAME/FOLDER",
        )
    log(f"fetch {where}: {len(files):,} files, {byte_size(n_bytes)}")


def _finish(data: HubData, new: Path) -> None:
    """Only now is it saved; an earlier commit is removed."""
    write_json_atomic(data.folder / "fetched.json", {"commit": new.name, "name": data.name})
    for other in data.folder.iterdir():
        if other.is_dir() and other != new:
            shutil.rmtree(other, ignore_errors=True)
