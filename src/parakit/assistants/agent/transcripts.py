"""The record of an agent's runs: a file of JSON lines each, written as the run goes, and all conversations in one file that
`parakit finetune` reads.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from parakit.assistants.agent.config import AgentConfig
from parakit.assistants.agent.loop import AgentRun, AgentStep
from parakit.assistants.tools.tool import ToolBox
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.data.conversations.conversation import Conversation
from parakit.data.conversations.messages import Message

CONVERSATIONS = "conversations.jsonl"


class RunTranscript:
    """One run's file in a folder. Each line is there as soon as its step is over, so a run that an error or an interruption
    ends is kept too; leaving the record's block then writes why it ended.
    """

    def __init__(
        self, folder: str | Path, model: str, messages: Sequence[Message], box: ToolBox, config: AgentConfig
    ) -> None:
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be made: {error.strerror}", "name another --transcripts"
            ) from None
        self.folder, self.box = folder, box
        self.path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.jsonl"
        self._write(
            {
                "event": "start",
                "model": model,
                "messages": [message.to_row() for message in messages],
                "tools": [tool.schema.to_row() for tool in box.tools],
                "settings": config.model_dump(mode="json"),
            }
        )

    def __enter__(self) -> RunTranscript:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            reason = error.message if isinstance(error, UserError) else type(error).__name__
            self._write({"event": "end", "outcome": "interrupted", "reason": f"ended: {reason}"})
            log(f"the record up to here is {self.path}")

    def add(self, step: AgentStep) -> None:
        """A turn with its calls."""
        self._write({"event": "step"} | step.to_row())

    def finish(self, run: AgentRun) -> None:
        """How the run ended; the conversation joins those of the folder."""
        self._write({"event": "end"} | run.to_row())
        tools = [tool.to_row() for tool in self.box.schemas]
        row = Conversation(tuple(run.messages), tools=json.dumps(tools) if tools else None)
        if run.messages[-1].role == "assistant":
            _append(self.folder / CONVERSATIONS, row.to_line())

    def _write(self, row: JsonObject) -> None:
        _append(self.path, json.dumps(row, ensure_ascii=False) + "\n")


def _append(path: Path, line: str) -> None:
    """One write at the end of the file, so that lines of several runs do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode(errors="replace"))
    finally:
        os.close(descriptor)
