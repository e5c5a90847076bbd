"""What a model has answered to the harness, in an SQLite file: an interrupted evaluation goes on, and a repeated one is read.

An answer belongs to the digest of the model's weights and tokenizer, the kind of the request and its exact content.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from parakit.common.errors import UserError
from parakit.common.hardware import parakit_version
from parakit.tokens.tokenizer.tokenizer import Tokenizer


def model_digest(model: Any, tokenizer: Tokenizer) -> str:
    """Of all that decides a model's answers: its weights and settings, its tokenizer and chat template."""
    found = hashlib.blake2b(digest_size=16)
    template = tokenizer.chat_template or ""
    for part in (parakit_version(), repr(model.config), tokenizer.digest, template):
        found.update(part.encode() + b"\0")
    for name, tensor in model.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        content = tensor.detach().cpu().contiguous()
        found.update(content.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


class AnswerStore:
    """The answers of one model."""

    def __init__(self, path: Path, model_digest: str) -> None:
        self.path, self.model_digest = path, model_digest
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("create table if not exists answers (key blob primary key, value text)")
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{path}: cannot hold the answers of an evaluation ({error})", "remove or rename the file"
            ) from None

    def find(self, kind: str, items: Sequence[Any]) -> dict[int, Any]:
        """The kept answers by the index of their item."""
        found: dict[int, Any] = {}
        for i, key in enumerate(self._keys(kind, items)):
            row = self._connection.execute("select value from answers where key = ?", (key,)).fetchone()
            if row is not None:
                value = json.loads(row[0])
                found[i] = tuple(value) if isinstance(value, list) else value
        return found

    def keep(self, kind: str, items: Sequence[Any], answers: Iterable[Any]) -> None:
        """Keep all of these, or none when the process is killed meanwhile."""
        rows = [
            (key, json.dumps(answer)) for key, answer in zip(self._keys(kind, items), answers, strict=True)
        ]
        self._connection.execute("begin")
        self._connection.executemany("insert or replace into answers values (?, ?)", rows)
        self._connection.execute("commit")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _keys(self, kind: str, items: Sequence[Any]) -> list[bytes]:
        start = hashlib.blake2b(f"{self.model_digest}\n{kind}\n".encode(), digest_size=16)
        keys = []
        for item in items:
            digest = start.copy()
            digest.update(json.dumps(item, sort_keys=True).encode())
            keys.append(digest.digest())
        return keys
