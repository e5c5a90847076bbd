"""A response as it grows: the events of its stream in their order, and the response object at the end.

response.created, response.in_progress; of each item response.output_item.added, then of a message content_part.added,
output_text.delta ..., output_text.done, content_part.done, of reasoning the same with reasoning_text, of a call
function_call_arguments.delta ..., .done; then output_item.done; at last response.completed, response.incomplete or
response.failed. Sequence numbers count from 0.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from parakit.common.files import JsonObject
from parakit.inference.tool_calls.parsing import CallDelta, CallEvent
from parakit.inference.tool_calls.reasoning import ReasoningDelta
from parakit.serving.api.responses.request import ResponsesRequest, TextSettings
from parakit.serving.generation.call import Usage
from parakit.tokens.tokenizer.fast_encoding import fix_surrogates


class ResponseEvents:
    """One response. The methods return the events to send; `response` is the object so far."""

    def __init__(
        self, request: ResponsesRequest, defaults: JsonObject, response_id: str | None = None
    ) -> None:
        self._sequence = 0
        self._item: JsonObject | None = None
        """The item that grows."""
        self.response: JsonObject = {
            "id": response_id or f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
            **echoed(request, defaults),
        }

    def start(self) -> list[JsonObject]:
        """The events before the first token."""
        return [self._whole("response.created"), self._whole("response.in_progress")]

    def push(self, event: CallEvent, logprobs: Sequence[JsonObject] = ()) -> list[JsonObject]:
        """The events of some text, or of a piece of reasoning or of a call."""
        events: list[JsonObject] = []
        if isinstance(event, ReasoningDelta):
            if self._item is None or self._item["type"] != "reasoning":
                events += self._close() + self._open_reasoning()
            assert self._item is not None
            self._item["content"][0]["text"] += event.text
            return [*events, self._of_part("response.reasoning_text.delta", delta=event.text)]
        if isinstance(event, str):
            if self._item is None or self._item["type"] != "message":
                events += self._close() + self._open_message()
            assert self._item is not None
            part = self._item["content"][0]
            part["text"] += event
            part["logprobs"] += logprobs
            return [
                *events,
                self._of_part("response.output_text.delta", delta=event, logprobs=list(logprobs)),
            ]
        if event.name is not None:
            events += self._close() + self._open_call(event)
        assert self._item is not None
        if event.arguments:
            self._item["arguments"] += event.arguments
            events.append(self._of_item("response.function_call_arguments.delta", delta=event.arguments))
        return events

    def finish(self, is_complete: bool, used: Usage, n_reasoning_tokens: int = 0) -> list[JsonObject]:
        """The last events; a response that is not complete met the limit of its tokens."""
        opened = [] if self.response["output"] else self._open_message()  # an empty answer is one, too
        events = [*opened, *self._close("completed" if is_complete else "incomplete")]
        self.response["usage"] = usage_json(used, n_reasoning_tokens)
        self.response["status"] = "completed" if is_complete else "incomplete"
        if is_complete:
            self.response["completed_at"] = int(time.time())
            return [*events, self._whole("response.completed")]
        self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        return [*events, self._whole("response.incomplete")]

    def fail(self, message: str, code: str = "server_error", used: Usage | None = None) -> list[JsonObject]:
        """The last events of a response that met an error."""
        events = self._close("incomplete")
        self.response["status"] = "failed"
        self.response["error"] = {"code": code, "message": message}
        self.response["usage"] = None if used is None else usage_json(used)
        return [*events, self._whole("response.failed")]

    # --- items
    def _open(self, item: JsonObject) -> JsonObject:
        self._item = item
        self.response["output"].append(item)
        return self._of_output("response.output_item.added", item=_copy(item))

    def _open_message(self) -> list[JsonObject]:
        head = {"id": f"msg_{secrets.token_hex(24)}", "type": "message", "role": "assistant"}
        return self._open_parts(head, {"type": "output_text", "text": "", "annotations": [], "logprobs": []})

    def _open_reasoning(self) -> list[JsonObject]:
        head = {"id": f"rs_{secrets.token_hex(24)}", "type": "reasoning", "summary": []}
        return self._open_parts(head, {"type": "reasoning_text", "text": ""})

    def _open_parts(self, head: JsonObject, part: JsonObject) -> list[JsonObject]:
        item = {**head, "status": "in_progress", "content": []}
        added = self._open(item)
        item["content"] = [part]
        return [added, self._of_part("response.content_part.added", part=_copy(part))]

    def _open_call(self, event: CallDelta) -> list[JsonObject]:
        item: JsonObject = {
            "id": f"fc_{secrets.token_hex(24)}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": event.id,
            "name": event.name,
            "arguments": "",
        }
        return [self._open(item)]

    def _close(self, status: str = "completed") -> list[JsonObject]:
        """The events at the end of the item that grows."""
        item = self._item
        if item is None:
            return []
        events: list[JsonObject] = []
        if item["type"] == "message":
            part = item["content"][0]
            done = {"text": part["text"], "logprobs": list(part["logprobs"])}
            events = [
                self._of_part("response.output_text.done", **done),
                self._of_part("response.content_part.done", part=_copy(part)),
            ]
        elif item["type"] == "reasoning":
            part = item["content"][0]
            events = [
                self._of_part("response.reasoning_text.done", text=part["text"]),
                self._of_part("response.content_part.done", part=_copy(part)),
            ]
        else:
            done = {"arguments": item["arguments"], "name": item["name"]}
            events = [self._of_item("response.function_call_arguments.done", **done)]
        item["status"] = status
        events.append(self._of_output("response.output_item.done", item=_copy(item)))
        self._item = None
        return events

    # --- events
    def _event(self, kind: str, **fields: Any) -> JsonObject:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event

    def _whole(self, kind: str) -> JsonObject:
        return self._event(kind, response=_copy(self.response))

    def _of_output(self, kind: str, **fields: Any) -> JsonObject:
        return self._event(kind, output_index=len(self.response["output"]) - 1, **fields)

    def _of_item(self, kind: str, **fields: Any) -> JsonObject:
        assert self._item is not None
        return self._of_output(kind, item_id=self._item["id"], **fields)

    def _of_part(self, kind: str, **fields: Any) -> JsonObject:
        return self._of_item(kind, content_index=0, **fields)


def usage_json(used: Usage, n_reasoning_tokens: int = 0) -> JsonObject:
    """The usage block."""
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": n_reasoning_tokens},
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def echoed(request: ResponsesRequest, defaults: JsonObject) -> JsonObject:
    """The settings of a request as its response repeats them; `defaults` are those of the model, such as temperature."""
    chosen = (request.text or TextSettings()).model_dump(by_alias=True, exclude_none=True)
    chosen["format"] = {"type": "text"} | chosen.get("format", {})
    reasoning = request.reasoning or {}
    tools = [{"description": None, "strict": False, "parameters": {}} | row for row in request.tools or ()]

    def of(name: str, default: Any) -> Any:
        value = getattr(request, name)
        return defaults.get(name, default) if value is None else value

    settings = {
        "model": request.model,
        "previous_response_id": request.previous_response_id,
        "instructions": request.instructions,
        "tools": tools,
        "tool_choice": request.tool_choice or "auto",
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "truncation": request.truncation or "disabled",
        "text": chosen,
        "temperature": of("temperature", 1.0),
        "top_p": of("top_p", 1.0),
        "presence_penalty": of("presence_penalty", 0.0),
        "frequency_penalty": of("frequency_penalty", 0.0),
        "top_logprobs": request.top_logprobs or 0,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "user": request.user,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "store": request.store is not False,
        "background": False,
        "service_tier": "default",
        "metadata": dict(request.metadata or {}),
        "safety_identifier": request.safety_identifier,
        "prompt_cache_key": request.prompt_cache_key,
    }
    return _copy(settings)


def _copy(value: Any) -> Any:
    """A copy of JSON data, so that what was sent does not change with what comes; without halves of surrogate pairs, which a
    body can have and UTF-8 cannot.
    """
    if isinstance(value, dict):
        return {_copy(key): _copy(item) for key, item in value.items()}
    if isinstance(value, str):
        return fix_surrogates(value)
    return [_copy(item) for item in value] if isinstance(value, list) else value
