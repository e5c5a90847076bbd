"""A sandbox for chat templates, which are code that comes with a model.

It is jinja's immutable sandbox without attribute access: only a short list of methods of texts, mappings and lists and the
fields of loops are allowed. Within it a template gets what transformers gives it, except that `strftime_now` has a fixed
date (another one each day would be other ids each day). A third-party template runs in a child process with bounded
memory, and is killed when it does not finish in time: an endless loop costs seconds. The child imports only jinja2, the
standard library and the two modules named here.

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
from .traced_filters import traced_filters

SECONDS_PER_REQUEST = 5.0
MEMORY_BYTES = 1 << 30
MAX_REPEATED = 1 << 24  # characters of a text times a number
_TEXT_METHODS = (
    "strip lstrip rstrip split rsplit splitlines startswith endswith upper lower title capitalize swapcase casefold "
    "replace join find rfind index rindex count isdigit isalpha isalnum isspace isupper islower istitle isnumeric "
    "isdecimal isascii removeprefix removesuffix partition rpartition center ljust rjust zfill format"
)
_LOOP_FIELDS = (
    "index index0 revindex revindex0 first last length depth depth0 previtem nextitem cycle changed"
)
_START_CHILD = (
    "import sys, types; package = types.ModuleType('chat'); package.__path__ = sys.argv[1:]; "
    "sys.modules['chat'] = package; from chat.template_sandbox import serve; serve()"
)
# A rendered context: the `text`, its `runs` (`traced_text.Leaves.runs`), and `owners`: the message of each source.
Rendering = dict[str, Any]


class TemplateError(Exception):
    """The template is invalid, rejects its input, or took too long."""


def render_all(source: str, contexts: Sequence[Mapping[str, Any]]) -> list[Rendering]:
    """Render a trusted template in this process. Of a context, the texts in `messages` (without the roles), `tools` and
    `documents` are texts of the conversation; all else is the template's. `date` is what `strftime_now` shows.
    """
    plain, traced = _compiled(source, False), _compiled(source, True)
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


_COMPILED: dict[tuple[str, bool], Any] = {}


def _compiled(source: str, traced: bool) -> Any:
    if (source, traced) not in _COMPILED:
        try:
            environment = _traced_environment() if traced else _environment()
            _COMPILED[source, traced] = environment.from_string(source)
        except Exception as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from None
    return _COMPILED[source, traced]


def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.runtime import LoopContext
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
    from jinja2.utils import Cycler, Joiner, Namespace

    allowed = {str: set(_TEXT_METHODS.split()), LoopContext: set(_LOOP_FIELDS.split())}
    allowed[dict] = {"items", "keys", "values", "get", "copy"}
    allowed[list] = allowed[tuple] = {"index", "count"}
    allowed[Cycler], allowed[Joiner] = {"current", "next", "reset"}, set()
    for kind in (tracing.TracedText, tracing.TracedMarkup):
        allowed[kind] = allowed[str]

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
                return self._safe_format(obj) if attribute == "format" else getattr(obj, attribute)
            return self._item(obj, attribute)

        def getitem(self, obj: Any, argument: Any) -> Any:
            return self._item(obj, argument)

        def _item(self, obj: Any, argument: Any) -> Any:
            try:
                return obj[argument]
            except Exception:  # looked for in another way
                pass
            if isinstance(argument, str) and (
                argument.startswith("_") or (hasattr(obj, argument) and not isinstance(obj, Mapping))
            ):
                raise TemplateError(f"it accesses the attribute {argument!r}")
            return self.undefined(obj=obj, name=argument)

        def _safe_format(self, form: str) -> Any:
            def formatted(*args: Any, **kwargs: Any) -> str:
                plain = SandboxedFormatter(self).vformat(form, args, kwargs)
                followed = form.format(*args, **kwargs)
                return followed if followed == plain else plain

            return formatted

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            n = right if isinstance(right, int) else left
            if operator == "*" and not numbers and isinstance(n, int):
                other = left if n is right else right
                numbers = isinstance(other, str | list | tuple) and len(other) * n <= MAX_REPEATED
            if not numbers or (operator == "**" and (abs(left) > 1 << 16 or abs(right) > 64)):
                raise TemplateError(f"operator {operator} is not allowed on these values")
            return super().call_binop(context, operator, left, right)

    environment = ClosedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    for name in ("pprint", "xmlattr", "random"):
        environment.filters.pop(name, None)
    environment.filters["attr"] = environment.getattr
    environment.filters["tojson"] = _to_json
    names = ("range", "dict", "namespace", "cycler", "joiner")
    environment.globals = {name: environment.globals[name] for name in names}
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _traced_environment() -> Any:
    """The same environment in which literals are the template's text, and texts keep the sources of their characters."""
    from jinja2.compiler import CodeGenerator

    class TracedCode(CodeGenerator):
        def _output_const_repr(self, group: Any) -> str:
            return self._constant("".join(group))

        def _output_child_pre(self, node: Any, frame: Any, finalize: Any) -> None:
            self.write("environment.printed(")

        def visit_Const(self, node: Any, frame: Any) -> None:
            value = node.as_const(frame.eval_ctx)
            if not isinstance(value, str | dict | list | tuple):
                return super().visit_Const(node, frame)
            return self.write(self._constant(value))

        def _constant(self, value: Any) -> str:
            constants: list[Any] = vars(self.environment)["constants"]
            constants.append(tracing.constant(value))
            return f"environment.constants[{len(constants) - 1}]"

        def visit_Concat(self, node: Any, frame: Any) -> None:
            self.write("environment.concat_printed((")
            for item in node.nodes:
                self.visit(item, frame)
                self.write(", ")
            self.write("))")

    environment = _environment()
    environment.code_generator_class = TracedCode
    environment.constants, environment.printed = [], tracing.printed
    environment.concat = tracing.concat
    environment.concat_printed = lambda parts: tracing.concat(map(tracing.printed, parts))
    environment.filters |= traced_filters(environment.filters)
    return environment


def _to_json(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


class TemplateWorker:
    """A child process that renders one third-party template. It ends with this object, or when it is too slow."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def render_all(self, contexts: Sequence[Mapping[str, Any]]) -> list[Rendering]:
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
