"""Saved conversations: a file each in `studio/conversations`, and the export of many as tuning data.

The export is a file of JSON lines that `parakit finetune --conversations` reads.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import read_json, write_json_atomic, write_text_atomic
from parakit.serving.studio.chatting.conversation_tree import ConversationTree

FOLDER, EXPORTS = "conversations", "exports"
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class SavedConversation:
    """An entry of the list: newest first."""

    id: str
    title: str
    n_turns: int
    modified: float


class ConversationStore:
    """The conversations below `studio_dir`. Ids are checked, so that none can name a file elsewhere."""

    def __init__(self, studio_dir: Path) -> None:
        self.folder = studio_dir / FOLDER
        self.exports = studio_dir / EXPORTS

    def save(self, tree: ConversationTree) -> None:
        """Write a conversation that has turns; the file of the same conversation is replaced."""
        if tree.turns:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json_atomic(self._file(tree.id), tree.to_json())

    def load(self, conversation_id: str) -> ConversationTree:
        """`UserError` for one that is gone or damaged."""
        file = self._file(conversation_id)
        if not file.is_file():
            raise UserError("this conversation is gone", "load the page again")
        return ConversationTree.from_json(read_json(file), str(file))

    def delete(self, conversation_id: str) -> None:
        """Remove a conversation's file."""
        self._file(conversation_id).unlink(missing_ok=True)

    def list(self, limit: int | None = None) -> list[SavedConversation]:
        """What is saved, newest first, at most `limit`; damaged files are left out."""
        files = [(file.stat().st_mtime, file) for file in self.folder.glob("*.json")]
        found = []
        for modified, file in sorted(files, reverse=True)[:limit]:
            with contextlib.suppress(UserError, OSError):
                tree = self.load(file.stem)
                found.append(SavedConversation(tree.id, tree.title, len(tree.turns), modified))
        return found

    def export(self, all_branches: bool = False) -> tuple[Path, int]:
        """All conversations as tuning data: the file, which is new, and how many rows it has. `UserError` without any."""
        trees = [self.load(entry.id) for entry in self.list()]
        lines = [one.to_line() for tree in trees for one in tree.conversations(all_branches)]
        if not lines:
            raise UserError("there is no conversation with an answer", "chat first")
        self.exports.mkdir(parents=True, exist_ok=True)
        number = 1
        while (file := self.exports / f"conversations-{number}.jsonl").exists():
            number += 1
        write_text_atomic(file, "".join(lines))
        return file, len(lines)

    def _file(self, conversation_id: str) -> Path:
        if not _ID.fullmatch(conversation_id):
            raise UserError("this is no conversation's id", "load the page again")
        return self.folder / f"{conversation_id}.json"
