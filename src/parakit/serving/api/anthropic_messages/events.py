"""A message as it grows: the events of its stream in their order, and the message object at the end.

message_start; of each block content_block_start, content_block_delta ..., content_block_stop; then message_delta with the stop
reason and the counts, and message_stop. `input_tokens` are those that were computed: tokens from the cache count as
`cache_read_input_tokens`.
"""

from __future__ import annotations

import secrets
from typing import Any, Literal

from parakit.common.files import JsonObject
from parakit.inference.tool_calls.parsing import CallDelta, CallEvent
from parakit.inference.tool_calls.reasoning import ReasoningDelta
from parakit.serving.api.anthropic_messages.request import as_json
from parakit.serving.generation.call import Usage

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class MessageEvents:
    """One message. The methods return the events to send; `message` is the object so far."""

    def __init__(self, model: str) -> None:
        self._arguments = ""
        self._is_open = False
        self.message: JsonObject = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": None,
        }

    def start(self, used: Usage) -> list[JsonObject]:
        """The first event; the counts of the prompt are known by now."""
        self.message["usage"] = usage_json(used)
        return [{"type": "message_start", "message": self.message | {"content": []}}, {"type": "ping"}]

    def push(self, event: CallEvent) -> list[JsonObject]:
        """The events of some text, or of a piece of reasoning or of a call."""
        blocks = self.message["content"]
        events: list[JsonObject] = []
        if isinstance(event, ReasoningDelta):
            if not self._is_open or blocks[-1]["type"] != "thinking":
                events += self._close() + self._open({"type": "thinking", "thinking": "", "signature": ""})
            blocks[-1]["thinking"] += event.text
            return [*events, self._delta({"type": "thinking_delta", "thinking": event.text})]
        if isinstance(event, str):
            if not self._is_open or blocks[-1]["type"] != "text":
                events += self._close() + self._open({"type": "text", "text": ""})
            blocks[-1]["text"] += event
            return [*events, self._delta({"type": "text_delta", "text": event})]
        if event.name is not None:
            events += self._close() + self._open(_tool_use(event))
        if event.arguments:
            self._arguments += event.arguments
            events.append(self._delta({"type": "input_json_delta", "partial_json": event.arguments}))
        return events

    def finish(self, reason: StopReason, used: Usage, stop_sequence: str | None = None) -> list[JsonObject]:
        """The last events."""
        events = self._close()
        self.message |= {"stop_reason": reason, "stop_sequence": stop_sequence, "usage": usage_json(used)}
        delta = {"stop_reason": reason, "stop_sequence": stop_sequence}
        return [
            *events,
            {"type": "message_delta", "delta": delta, "usage": usage_json(used)},
            {"type": "message_stop"},
        ]

    def _open(self, block: JsonObject) -> list[JsonObject]:
        self.message["content"].append(block)
        self._is_open, self._arguments = True, ""
        return [{"type": "content_block_start", "index": self._index, "content_block": dict(block)}]

    def _close(self) -> list[JsonObject]:
        if not self._is_open:
            return []
        block = self.message["content"][-1]
        if block["type"] == "tool_use":
            block["input"] = as_json(self._arguments)
        self._is_open = False
        return [{"type": "content_block_stop", "index": self._index}]

    def _delta(self, delta: JsonObject) -> JsonObject:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    @property
    def _index(self) -> int:
        return len(self.message["content"]) - 1


def usage_json(used: Usage) -> JsonObject:
    """The usage block."""
    return {
        "input_tokens": used.prompt_tokens - used.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.cached_tokens,
        "output_tokens": used.completion_tokens,
    }


def _tool_use(event: CallDelta) -> dict[str, Any]:
    return {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
