"""Uploaded files and the answers of batches, below one folder: of each its content, and its description as JSON.

A file belongs to the owner that made it. Without a folder of its own a server keeps them in a temporary one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from parakit.common.files import JsonObject, disk_errors, read_json, write_json_atomic, writing_file

FILE_ID = re.compile(r"file-[0-9a-f]{24}")
BATCH_ID = re.compile(r"batch_[0-9a-f]{24}")


class Descriptions:
    """JSON objects by id, each in a file of its own."""

    def __init__(self, folder: Path, pattern: re.Pattern[str]) -> None:
        self.folder, self._pattern = folder, pattern

    def put(self, owner: str, value: JsonObject) -> None:
        """Keep an object under its `id`."""
        self.make_folder()
        write_json_atomic(self.folder / f"{value['id']}.json", {"owner": owner, "value": value})

    def make_folder(self) -> None:
        """Make the folder, which only this user can read."""
        with disk_errors(self.folder):
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)

    def get(self, owner: str | None, object_id: str) -> JsonObject | None:
        """The object, if it is the owner's; with None, of any owner."""
        path = self.folder / f"{object_id}.json"
        if not self._pattern.fullmatch(object_id) or not path.is_file():
            return None
        row = read_json(path, dict)
        return row["value"] if owner is None or row["owner"] == owner else None

    def all(self, owner: str | None) -> list[JsonObject]:
        """Newest first."""
        found = [value for path in self.folder.glob("*.json") if (value := self.get(owner, path.stem))]
        return sorted(found, key=lambda value: (value["created_at"], value["id"]), reverse=True)

    def owner(self, object_id: str) -> str:
        """Whose it is."""
        return str(read_json(self.folder / f"{object_id}.json", dict)["owner"])

    def delete(self, object_id: str) -> None:
        """Forget an object."""
        (self.folder / f"{object_id}.json").unlink(missing_ok=True)


class FileStore:
    """Files with JSON lines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptions = Descriptions(folder, FILE_ID)

    def put(self, owner: str, name: str, purpose: str, content: bytes, of: str = "") -> JsonObject:
        """Keep a file; its description in OpenAI's form. `of`: what it is the only file of; a second one replaces it."""
        hexadecimal = hashlib.sha256(of.encode()).hexdigest()[:24] if of else secrets.token_hex(12)
        value: JsonObject = {
            "id": f"file-{hexadecimal}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self._descriptions.make_folder()
        with writing_file(self.path(value["id"])) as file:
            file.write(content)
        self._descriptions.put(owner, value)
        return value

    def path(self, file_id: str) -> Path:
        """Where the content of a file is."""
        return self._folder / f"{file_id}.jsonl"

    def get(self, owner: str, file_id: str) -> JsonObject | None:
        """The description of a file of this owner."""
        return self._descriptions.get(owner, file_id)

    def all(self, owner: str) -> list[JsonObject]:
        """The owner's files, newest first."""
        return self._descriptions.all(owner)

    def delete(self, file_id: str) -> None:
        """Forget a file."""
        self._descriptions.delete(file_id)
        self.path(file_id).unlink(missing_ok=True)

    def lines(self, file_id: str) -> Iterator[bytes]:
        """The lines of a file."""
        with open(self.path(file_id), "rb") as file:
            yield from file
