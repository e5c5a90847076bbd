"""What a chat template may do: jinja's immutable sandbox without attribute access.

Only a short list of methods of texts, mappings and lists and the fields of loops are allowed. Within it a template gets
what transformers gives it, except that `strftime_now` has a fixed date (another one each day would be other ids each
day). The traced environment renders the same with `TracedText`. Imports jinja2 and the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import traced_text as tracing
from .traced_filters import traced_filters

MAX_REPEATED = 1 << 24  # characters of a text times a number
_TEXT_METHODS = (
    "strip lstrip rstrip split rsplit splitlines startswith endswith upper lower title capitalize swapcase casefold "
    "replace join find rfind index rindex count isdigit isalpha isalnum isspace isupper islower istitle isnumeric "
    "isdecimal isascii removeprefix removesuffix partition rpartition center ljust rjust zfill format"
)
_LOOP_FIELDS = (
    "index index0 revindex revindex0 first last length depth depth0 previtem nextitem cycle changed"
)


class TemplateError(Exception):
    """The template is invalid, rejects its input, or took too long."""


_COMPILED: dict[tuple[str, bool], Any] = {}


def compiled(source: str, traced: bool) -> Any:
    """The template of `source`, `traced` or plain; `TemplateError` where it is invalid."""
    if (source, traced) not in _COMPILED:
        try:
            environment = _traced_environment() if traced else plain_environment()
            _COMPILED[source, traced] = environment.from_string(source)
        except Exception as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from None
    return _COMPILED[source, traced]


def plain_environment() -> Any:
    """Jinja's environment with what transformers puts into it, closed."""
    environment = _closed_environment_class()(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(), "jinja2.ext.loopcontrols"]
    )
    for name in ("pprint", "xmlattr", "random"):
        environment.filters.pop(name, None)
    environment.filters["attr"] = environment.getattr
    environment.filters["tojson"] = _to_json
    names = ("range", "dict", "namespace", "cycler", "joiner")
    environment.globals = {name: environment.globals[name] for name in names}
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _generation_tag() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        """`{% generation %}` marks an assistant's content; roles determine that here, so its body is rendered as is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return Generation


def _allowed_attributes() -> dict[type, set[str]]:
    from jinja2.runtime import LoopContext
    from jinja2.utils import Cycler

    of_text = set(_TEXT_METHODS.split())
    return {
        str: of_text,
        tracing.TracedText: of_text,
        tracing.TracedMarkup: of_text,
        dict: {"items", "keys", "values", "get", "copy"},
        list: {"index", "count"},
        tuple: {"index", "count"},
        LoopContext: set(_LOOP_FIELDS.split()),
        Cycler: {"current", "next", "reset"},
    }


def _closed_environment_class() -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
    from jinja2.utils import Namespace

    allowed = _allowed_attributes()

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

    return ClosedEnvironment


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

    environment = plain_environment()
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
