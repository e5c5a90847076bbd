"""A sandbox for chat templates, which are code that comes with a model.

It is jinja's immutable sandbox without attribute access: only a short list of methods of strings and mappings and the
fields of loops are allowed. A third-party template runs in a child process with bounded memory, and is killed when it
does not finish in time: an endless loop costs seconds. The child is started by file path and imports only jinja2 and the
standard library. There is no clock, because a template that prints the date would give other ids each day.
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
from typing import Any

SECONDS_PER_REQUEST = 5.0
MEMORY_BYTES = 1 << 30
_STRING_METHODS = (
    "strip lstrip rstrip split rsplit splitlines startswith endswith upper lower title capitalize replace "
    "join find rfind count isdigit isalpha isspace removeprefix removesuffix partition rpartition"
)
_LOOP_FIELDS = (
    "index index0 revindex revindex0 first last length depth depth0 previtem nextitem cycle changed"
)


class TemplateError(Exception):
    """The template is invalid, rejects its input, or took too long."""


def render_all(source: str, contexts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Render a trusted template in this process."""
    template = _compiled(source)
    try:
        return [template.render(**context) for context in contexts]
    except Exception as error:  # any error is the template's
        raise TemplateError(f"{type(error).__name__}: {error}") from None


_COMPILED: dict[str, Any] = {}


def _compiled(source: str) -> Any:
    if source not in _COMPILED:
        try:
            _COMPILED[source] = _environment().from_string(source)
        except Exception as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from None
    return _COMPILED[source]


def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.runtime import LoopContext
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    allowed = {str: set(_STRING_METHODS.split()), LoopContext: set(_LOOP_FIELDS.split())}
    allowed[dict] = {"items", "keys", "values", "get"}

    class Generation(Extension):
        """`{% generation %}` marks an assistant's content; roles determine that here, so its body is rendered as is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    class ClosedEnvironment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def getattr(self, obj: Any, attribute: str) -> Any:
            if isinstance(obj, Namespace) and not attribute.startswith("_"):
                return super().getattr(obj, attribute)
            if attribute in allowed.get(type(obj), ()):
                return getattr(obj, attribute)
            return self._item(obj, attribute)

        def getitem(self, obj: Any, argument: Any) -> Any:
            return self._item(obj, argument)

        def _item(self, obj: Any, argument: Any) -> Any:
            with contextlib.suppress(Exception):
                return obj[argument]
            if isinstance(argument, str) and (
                argument.startswith("_") or (hasattr(obj, argument) and not isinstance(obj, Mapping))
            ):
                raise TemplateError(f"it accesses the attribute {argument!r}")
            return self.undefined(obj=obj, name=argument)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or not (isinstance(left, int | float) and isinstance(right, int | float)):
                raise TemplateError(f"operator {operator} is not allowed on these values")
            return super().call_binop(context, operator, left, right)

    environment = ClosedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    for name in ("attr", "format", "pprint", "xmlattr", "center", "indent"):
        environment.filters.pop(name, None)
    environment.filters["tojson"] = _to_json
    environment.globals = {k: environment.globals[k] for k in ("range", "dict", "namespace")}
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, **options)


class TemplateWorker:
    """A child process that renders one third-party template. It ends with this object, or when it is too slow."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def render_all(self, contexts: Sequence[Mapping[str, Any]]) -> list[str]:
        """Render for each context, all within `SECONDS_PER_REQUEST`; `TemplateError` otherwise."""
        with self._lock:
            child = self._start()
            assert child.stdin is not None
            deadline = time.monotonic() + SECONDS_PER_REQUEST
            try:
                request = {"source": self._source, "contexts": list(contexts)}
                reply = self._exchange(child, json.dumps(request).encode() + b"\n", deadline)
            except (OSError, TemplateError) as error:
                self._stop()
                reason = str(error) if isinstance(error, TemplateError) else "its process ended"
                raise TemplateError(reason) from None
        if "error" in reply:
            raise TemplateError(reply["error"])
        return reply["texts"]

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                [sys.executable, "-I", __file__],
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
        while not received.endswith(b"\n"):
            writers = [child.stdin] if unsent else []
            ready = select.select([child.stdout], writers, [], max(deadline - time.monotonic(), 0))
            if not any(ready):
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


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    child.wait()


def _serve() -> None:
    """The child process: one JSON request a line, one JSON reply a line."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            reply: dict[str, Any] = {"texts": render_all(request["source"], request["contexts"])}
        except (TemplateError, RecursionError, MemoryError) as error:
            reply = {"error": str(error) or type(error).__name__}
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
