"""Runs chat templates, which are code that comes with a model (`template_environment` is what they may do).

A third-party template runs in a child process with bounded memory, and is killed when it does not finish in time: an
endless loop costs seconds. The time is the child's own where the system tells it, so that a busy machine fails no template. The
child imports only jinja2, the standard library and the modules of this folder that are
named here by a relative import.

Each context is rendered twice: with plain strings, and with `TracedText`, which follows every character. Both must agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from . import traced_text as tracing  # relative: the child process knows this folder as the package `chat`
from .template_environment import TemplateError, compiled

SECONDS_PER_REQUEST, MAX_FAILURES = 5.0, 2
MAX_SECONDS_WAITED = 120.0  # for a child that a busy machine does not run
MEMORY_BYTES = 1 << 30
_START_CHILD = (
    "import sys, types; package = types.ModuleType('chat'); package.__path__ = sys.argv[1:]; "
    "sys.modules['chat'] = package; from chat.template_sandbox import serve; serve()"
)
# A rendered context: the `text`, its `runs` (`traced_text.Leaves.runs`), and `owners`: the message of each source.
Rendering = dict[str, Any]


def render_all(source: str, contexts: Sequence[Mapping[str, Any]]) -> list[Rendering]:
    """Render a trusted template in this process. Of a context, the texts in `messages` (without the roles), `tools` and
    `documents` are texts of the conversation; all else is the template's. `date` is what `strftime_now` shows.
    """
    plain, traced = compiled(source, False), compiled(source, True)
    try:
        return [_rendered(plain, traced, context) for context in contexts]
    except Exception as error:  # any error is the template's
        raise TemplateError(f"{type(error).__name__}: {error}") from None


def _rendered(plain: Any, traced: Any, context: Mapping[str, Any]) -> Rendering:
    variables = {key: value for key, value in context.items() if key != "date"}
    day, leaves = date.fromisoformat(context["date"]), tracing.Leaves()
    text = plain.render(strftime_now=day.strftime, **variables)
    given = _traced_context(variables, leaves)
    followed = traced.render(strftime_now=lambda form: tracing.literal(day.strftime(form)), **given)
    if text != followed:
        raise TemplateError("what it does with the texts of the messages cannot be followed")
    return {"text": text, "runs": leaves.runs(followed), "owners": leaves.owners}


def _traced_context(variables: Mapping[str, Any], leaves: tracing.Leaves) -> dict[str, Any]:
    messages = [
        {
            key: tracing.literal(value) if key == "role" else leaves.wrap(value, number)
            for key, value in message.items()
        }
        for number, message in enumerate(variables["messages"])
    ]
    given = {name: leaves.wrap(variables.get(name), None) for name in ("tools", "documents")}
    rest = {k: tracing.literal(v) if isinstance(v, str) else v for k, v in variables.items()}
    return rest | given | {"messages": messages}


class TemplateWorker:
    """A child process that renders one third-party template. It ends with this object, or when it is too slow."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._n_failures = 0

    def render_all(self, contexts: Sequence[Mapping[str, Any]]) -> list[Rendering]:
        """Render for each context, all within `SECONDS_PER_REQUEST`; `TemplateError` otherwise."""
        with self._lock:
            if self._n_failures >= MAX_FAILURES:
                raise TemplateError(f"it was ended {MAX_FAILURES} times: it takes too much time or memory")
            child = self._start()
            assert child.stdin is not None
            deadline = time.monotonic() + SECONDS_PER_REQUEST
            try:
                request = {"source": self._source, "contexts": list(contexts)}
                reply = self._exchange(child, json.dumps(request).encode() + b"\n", deadline)
            except (OSError, TemplateError) as error:
                self._stop()
                self._n_failures += 1
                reason = str(error) if isinstance(error, TemplateError) else "its process ended"
                raise TemplateError(reason) from None
        if "error" in reply:
            raise TemplateError(reply["error"])
        return reply["renderings"]

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-c", _START_CHILD, str(Path(__file__).parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                bufsize=0,
            )
            for pipe in (self._child.stdin, self._child.stdout):
                assert pipe is not None
                os.set_blocking(pipe.fileno(), False)
            weakref.finalize(self, _end, self._child)
        return self._child

    @staticmethod
    def _exchange(child: subprocess.Popen[bytes], request: bytes, deadline: float) -> dict[str, Any]:
        assert child.stdin is not None
        assert child.stdout is not None
        received, unsent = bytearray(), memoryview(request)
        last = deadline + MAX_SECONDS_WAITED - SECONDS_PER_REQUEST
        used_before = _processor_seconds(child)
        while not received.endswith(b"\n"):
            writers = [child.stdin] if unsent else []
            ready = select.select([child.stdout], writers, [], max(deadline - time.monotonic(), 0))
            if not any(ready):
                used = _processor_seconds(child)
                if used is not None and used_before is not None and time.monotonic() < last:
                    left = SECONDS_PER_REQUEST - (used - used_before)
                    if left > 0:
                        deadline = min(time.monotonic() + left, last)
                        continue
                raise TemplateError(f"it did not finish within {SECONDS_PER_REQUEST:g} s")
            if ready[1]:
                unsent = unsent[os.write(child.stdin.fileno(), unsent[:65536]) :]
            if ready[0]:
                data = os.read(child.stdout.fileno(), 1 << 20)
                if not data:
                    raise TemplateError("its process ended (too much memory?)")
                received += data
        return json.loads(received)

    def _stop(self) -> None:
        if self._child is not None:
            _end(self._child)
            self._child = None


def _processor_seconds(child: subprocess.Popen[bytes]) -> float | None:
    """What the child has computed so far; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    child.wait()


def serve() -> None:
    """The child process: one JSON request a line, one JSON reply a line."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            reply: dict[str, Any] = {"renderings": render_all(request["source"], request["contexts"])}
        except (TemplateError, RecursionError, MemoryError) as error:
            reply = {"error": str(error) or type(error).__name__}
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()
