"""Which tokens of a conversation count in the loss, as runs of text: what the model reads, and what it learns to write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.messages import parse_messages
from parakit.serving.studio.inventory.finding import find_tokenizers
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class MaskedRun:
    """Consecutive tokens of one kind: their text, whether the loss counts them, and whether they are control tokens."""

    text: str
    is_counted: bool
    is_control: bool
    n_tokens: int


def masked_runs(tokenizer: Tokenizer, messages: Any, tools: Any = None) -> list[MaskedRun]:
    """The runs of a conversation as training reads it. `UserError` where the template cannot render it."""
    chat = compile_chat(tokenizer, messages, tools=tools)
    names = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
    runs: list[tuple[bool, bool, list[int]]] = []
    for token_id, counts in zip(chat.token_ids, chat.loss_mask, strict=True):
        is_control = token_id in names
        if runs and runs[-1][:2] == (bool(counts), is_control) and not is_control:
            runs[-1][2].append(token_id)
        else:
            runs.append((bool(counts), is_control, [token_id]))
    return [
        MaskedRun(names[ids[0]] if is_control else tokenizer.decode(ids), counts, is_control, len(ids))
        for counts, is_control, ids in runs
    ]


def runs_of_row(tokenizer: Tokenizer, row: JsonObject) -> list[MaskedRun]:
    """The runs of a row of a conversations folder. Errors as `masked_runs`, and for a row that is none."""
    given = row.get("messages")
    messages = parse_messages(given if isinstance(given, list) else [], "the row")
    return masked_runs(tokenizer, [message.to_row() for message in messages], row.get("tools"))


def tokenizer_folders(folder: Path, root: Path) -> list[Path]:
    """Folders whose tokenizer can read a set: those next to it first, then the others below `root`."""
    found = [one.path for one in find_tokenizers(root)]
    return sorted(found, key=lambda path: path.parent != folder.parent)


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a folder. `UserError` where there is none, or it has no chat template."""
    tokenizer = Tokenizer.load(path)
    if not tokenizer.chat_template:
        raise UserError(f"{path}: its tokenizer has no chat template", "choose that of a chat model")
    return tokenizer
