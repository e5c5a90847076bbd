"""Paths that name something on the network, and where it is saved on this machine.

`urls:FILE` is a list of addresses; what they gave is saved next to it, in `FILE.warc`. `hub:OWNER/NAME` is a data set of
the Hugging Face hub, saved in the cache. Reading opens what is saved and never the network, so that a build is repeatable
and works offline; `fetch_named` saves it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import cache_folder, is_file, read_json

URLS, HUB = "urls:", "hub:"
_NAME = re.compile(
    r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([A-Za-z0-9][\w.-]{0,95}))?((?:/[^/]+)*)/?"
)
FETCH_HINT = "allow it with fetch (--fetch, in a recipe text.fetch: true)"


@dataclass(frozen=True)
class HubData:
    """A data set, or the folder or file `part` of it, at a revision (a branch, tag or commit)."""

    name: str
    revision: str = "main"
    part: str = ""

    @property
    def folder(self) -> Path:
        """Where it is saved: `fetched.json` there names the commit, and the folder of a commit has the files."""
        part = f"--{self.part.replace('/', '--')}" if self.part else ""
        return cache_folder() / "datasets" / f"{self.name.replace('/', '--')}@{self.revision}{part}"

    def saved(self) -> Path | None:
        """The saved folder or file; None where it has not been fetched."""
        if not is_file(self.folder / "fetched.json"):
            return None
        place = self.folder / read_json(self.folder / "fetched.json", dict[str, str])["commit"] / self.part
        return place if place.exists() else None


def is_on_network(path: str) -> bool:
    """Whether a path names something on the network."""
    return path.startswith((URLS, HUB))


def hub_data(path: str) -> HubData:
    """The data set that `hub:OWNER/NAME[@REVISION][/PART]` names; `UserError` for another form."""
    match = _NAME.fullmatch(path.removeprefix(HUB))
    if match is None or ".." in match[3].split("/"):
        raise UserError(
            f"{path}: is no name of a data set",
            "write hub:OWNER/NAME, with @REVISION or /FOLDER where wanted",
        )
    return HubData(match[1], match[2] or "main", match[3].lstrip("/"))


def list_file(path: str) -> Path:
    """The file of a list of addresses."""
    return Path(path.removeprefix(URLS)).expanduser()


def saved_pages(file: Path) -> Path:
    """Where the pages of a list of addresses are saved."""
    return file.with_name(f"{file.name}.warc")


def local_path(path: str) -> Path:
    """The file or folder on this machine that a path means; `UserError` where it is on the network and not saved here."""
    if path.startswith(URLS):
        saved = saved_pages(list_file(path))
        if list_file(path).is_file() and not saved.is_file():
            raise UserError(f"{path}: its addresses have not been fetched", FETCH_HINT)
        return saved
    if path.startswith(HUB):
        if (found := hub_data(path).saved()) is None:
            raise UserError(f"{path}: has not been fetched", FETCH_HINT)
        return found
    return Path(path).expanduser()
