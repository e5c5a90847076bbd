"""Logs as JSON lines on standard error, one object a line, with the request's id. No text of prompts unless it is wanted."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from parakit.serving.generation.generation import Generation
from parakit.serving.generation.service import MeteredWork

LOGGER = "parakit.serving"


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; `extra={"fields": {...}}` adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))[-8000:]
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logs(level: int = logging.INFO) -> None:
    """Send the server's log, and uvicorn's warnings, to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, least in ((LOGGER, level), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [handler], False
        logger.setLevel(least)


def log_event(message: str, **fields: Any) -> None:
    """One line of the log."""
    logging.getLogger(LOGGER).info(message, extra={"fields": fields})


def log_work(work: MeteredWork) -> None:
    """The line of a request that used a model without generating, such as for vectors."""
    log_event(
        f"{work.kind} {work.outcome}",
        request_id=work.call.request_id,
        model=work.call.model,
        outcome=work.outcome,
        prompt_tokens=work.usage.prompt_tokens,
        seconds=round(work.seconds, 4),
    )


def log_generation(generation: Generation, with_text: bool = False) -> None:
    """The line of a generation that has ended."""
    usage, call = generation.usage, generation.call
    first = generation.seconds_to_first_token
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "model": call.model,
        "outcome": generation.outcome,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "seconds": round(generation.seconds, 4),
        "seconds_to_first_token": None if first is None else round(first, 4),
    }
    if generation.n_dropped_tokens:
        fields["dropped_messages"] = generation.n_dropped_messages
        fields["dropped_tokens"] = generation.n_dropped_tokens
    if with_text:
        fields["prompt"] = call.messages if call.messages is not None else call.prompt or call.token_ids
        fields["completions"] = generation.texts
    note = f"reused {usage.cached_tokens:,} of {usage.prompt_tokens:,} prompt tokens"
    log_event(f"generation {generation.outcome}: {note}", **fields)
