"""Function calls from one confined process to another, by plain data: the judge calls, the program under test answers.

A result is plain data or an exception of a type of Python or its library (of the program's own type: of the nearest such
base, and of the class that the tests name), rebuilt on the judge's side: it can have any value but execute nothing. A
program that has ended, or whose result is not plain data, raises a `BaseException` that is no `Exception`, so that no test
which expects an exception accepts it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import IO, Any

from parakit.sandbox.codec import MAX_LINE, NotSerializable, UnsupportedType, decode, encode

# Raised inside a loop of the tests, these would end the loop as if it were complete.
_LOOP_CONTROL = ("StopIteration", "StopAsyncIteration", "GeneratorExit")
# Their exceptions are rebuilt. Not those of unittest: a skipped test is no failed one.
_MODULES = frozenset(
    (
        "builtins", "array", "binascii", "calendar", "configparser", "copy", "csv", "_csv", "dataclasses", "decimal",
        "graphlib", "ipaddress", "json.decoder", "queue", "_queue", "re", "re._constants", "sre_constants", "statistics",
        "struct", "_struct", "tokenize", "xml.etree.ElementTree", "zlib", "zoneinfo._common",
    )
)  # fmt: skip


class CandidateError(Exception):
    """The program raised an exception of a type of its own."""


class CandidateUnavailable(BaseException):
    """The program ended, or returned no plain data: no test can pass on that."""


class BrokenTest(BaseException):
    """The tests made a call that is impossible; the program is not to blame."""


class CandidateProxy:
    """The functions of the program under test. `n_calls` counts the calls made."""

    def __init__(self, calls: IO[bytes], results: IO[bytes]) -> None:
        self.calls, self.results, self.n_calls = calls, results, 0
        self.exceptions: dict[str, type[Exception]] = {}

    def function(self, name: str) -> Callable[..., Any]:
        """The function of that name: arguments and result are passed by value."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        return call

    def exception(self, name: str) -> type[Exception]:
        """The class that stands for an exception of the program's with that name, for a test's `except`."""
        return self.exceptions.setdefault(name, type(name, (CandidateError,), {}))

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            line = encode([name, args, kwargs])
        except UnsupportedType as error:
            raise BrokenTest(f"arguments of {name}: {error}") from None
        except NotSerializable as error:  # too large or too deep, and perhaps built from earlier results
            raise CandidateUnavailable(f"arguments of {name}: {error}") from None
        self.n_calls += 1
        try:
            self.calls.write(line)
            self.calls.flush()
            reply = self.results.readline(MAX_LINE + 1)
            if not reply:
                raise CandidateUnavailable(f"the program ended before {name} returned")
            kind, value = decode(reply)
        except (OSError, NotSerializable, ValueError, TypeError) as error:
            raise CandidateUnavailable(f"{name} returned no result ({error})") from None
        if kind == "returned":
            return value
        if kind == "raised":
            raise self._exception(*value)
        raise CandidateUnavailable(f"{name}: {value}")

    def _exception(self, names: object, message: object, args: object) -> BaseException:
        """The exception that the program described: see `_describe`."""
        if not isinstance(names, list) or not isinstance(args, list) or not names:
            raise CandidateUnavailable("an exception without a type")
        own = self.exceptions.get(names[0][1]) if names[0][0] == "candidate" else None
        known = (
            (rank, kind) for rank, (module, name) in enumerate(names) if (kind := _known_type(module, name))
        )
        rank, base = next(known, (len(names), Exception))
        error: BaseException = (own or CandidateError)(f"{names[0][1]}: {message}")
        if not rank:
            error = _construct(base, args, [message])
        elif base is not Exception:
            kind = type(str(names[0][1]), (own or CandidateError, base), {})
            error = _construct(kind, [message])
        error.from_candidate = True  # type: ignore[attr-defined]
        return error


def _known_type(module: object, name: object) -> type[BaseException] | None:
    """An exception's type of Python or its library, unless it would end a loop of the tests."""
    if module not in _MODULES or not isinstance(name, str) or name in _LOOP_CONTROL:
        return None
    try:
        found = getattr(importlib.import_module(str(module)), name, None)
    except ImportError:
        return None
    allowed = isinstance(found, type) and (issubclass(found, Exception) or found is SystemExit)
    return found if allowed else None


def _construct(kind: type[BaseException], *choices: list[object]) -> BaseException:
    """An exception of the first arguments that its type takes, else of none."""
    for args in choices:
        with contextlib.suppress(Exception):
            return kind(*args)
    return kind.__new__(kind)


def answer_calls(namespace: dict[str, Any], calls: IO[bytes], results: IO[bytes]) -> None:
    """Answer calls until the pipe is closed. The program's code may have changed anything in this process, so the judge
    trusts none of its replies.
    """
    while line := calls.readline():
        name, args, kwargs = decode(line)
        results.write(_answer(namespace, name, args, kwargs))
        results.flush()


def _answer(namespace: dict[str, Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    if name not in namespace:
        return encode(["raised", _describe(NameError(f"name {name!r} is not defined"))])
    try:
        result = namespace[name](*args, **kwargs)
    except (Exception, SystemExit) as error:
        return _encoded_error(error)
    try:
        return encode(["returned", result])
    except NotSerializable as error:
        return encode(["invalid", f"its result: {error}"])


def _encoded_error(error: BaseException) -> bytes:
    names, message, args = _describe(error)
    try:
        return encode(["raised", [names, message, args]])
    except NotSerializable:
        return encode(["raised", [names, message, [message]]])


def _describe(error: BaseException) -> tuple[list[list[str]], str, list[Any]]:
    """Module and name of the exception's type and of its bases, what it says, and what it was made of."""
    names = [[str(kind.__module__), kind.__qualname__] for kind in type(error).__mro__ if kind is not object]
    message, args = type(error).__name__, []
    with contextlib.suppress(Exception):  # methods of the program's own
        message = str(error)[:500]
    with contextlib.suppress(Exception):
        reduced = error.__reduce__()
        args = list(reduced[1] if isinstance(reduced, tuple) and reduced[0] is type(error) else error.args)
    return names, message, args
