"""Deleting without losing: what is deleted moves to `.trash` below the studio's folder, and can be put back."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import disk_errors, read_json, write_json_atomic
from parakit.serving.studio.inventory.finding import FoundFolder

TRASH, RECORD, CONTENT = ".trash", "deleted.json", "content"
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")


@dataclass(frozen=True)
class Deleted:
    """`name`: where it was, relative to the folder."""

    id: str
    name: str
    deleted: float


class Trash:
    """The deleted folders and files of one root."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / TRASH

    def delete(self, found: FoundFolder) -> Deleted:
        """Move it; a rename, so it is as fast for large models. `UserError` for the root itself."""
        if found.path.resolve() == self.root.resolve():
            raise UserError(f"{found.name}: is the studio's own folder", "delete what is in it")
        entry = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        place = self.folder / entry
        name = found.path.relative_to(self.root).as_posix()
        with disk_errors(place):
            place.mkdir(parents=True)
            write_json_atomic(place / RECORD, {"name": name, "deleted": time.time()})
            try:
                os.rename(found.path, place / CONTENT)
            except OSError:
                (place / RECORD).unlink()
                place.rmdir()
                raise
        return self._read(place)

    def list(self) -> list[Deleted]:
        """What can be put back, newest first."""
        found = []
        for place in self.folder.iterdir() if self.folder.is_dir() else ():
            with contextlib.suppress(UserError, OSError):
                if (place / CONTENT).exists():
                    found.append(self._read(place))
        return sorted(found, key=lambda one: one.id, reverse=True)

    def restore(self, entry_id: str) -> Path:
        """Put it back where it was. `UserError` where something else is there now."""
        if not _ID.fullmatch(entry_id) or not (self.folder / entry_id / CONTENT).exists():
            raise UserError("this is not in the trash any more", "load the page again")
        place = self.folder / entry_id
        target = self.root / self._read(place).name
        if not target.resolve().is_relative_to(self.root.resolve()):
            raise UserError(f"{place / RECORD}: names a place outside the studio's folder", "move it by hand")
        if target.exists():
            raise UserError(f"{target}: something else is there now", "rename or delete that first")
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(place / CONTENT, target)
            (place / RECORD).unlink()
            place.rmdir()
        return target

    def _read(self, place: Path) -> Deleted:
        record = read_json(place / RECORD)
        try:
            return Deleted(place.name, str(record["name"]), float(record["deleted"]))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{place / RECORD}: is damaged", "move its folder back by hand") from None
