"""Function calls from one confined process to another, by plain data: the judge calls, the program under test answers.

A result is plain data or an exception of a built-in type, rebuilt on the judge's side: it can have any value but
execute nothing. A program that has ended, or whose result is not plain data, raises a `BaseException` that is no
`Exception`, so that no test which expects an exception accepts it.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Callable
from typing import IO, Any

from parakit.sandbox.codec import MAX_LINE, NotSerializable, UnsupportedType, decode, encode

# Raised inside a loop of the tests, these would end the loop as if it were complete.
_LOOP_CONTROL = ("StopIteration", "StopAsyncIteration", "GeneratorExit")


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

    def function(self, name: str) -> Callable[..., Any]:
        """The function of that name: arguments and result are passed by value."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        return call

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
            raise _exception(*value)
        raise CandidateUnavailable(f"{name}: {value}")


def _exception(type_name: object, message: object) -> Exception:
    builtin: Any = getattr(builtins, type_name, None) if isinstance(type_name, str) else None
    error: Exception = CandidateError(f"{type_name}: {message}")
    if isinstance(builtin, type) and issubclass(builtin, Exception) and type_name not in _LOOP_CONTROL:
        with contextlib.suppress(Exception):  # some need more arguments
            error = builtin(message)
    error.from_candidate = True  # type: ignore[attr-defined]
    return error


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
        return encode(["raised", ["NameError", f"name {name!r} is not defined"]])
    try:
        result = namespace[name](*args, **kwargs)
    except Exception as error:
        return encode(["raised", [type(error).__name__, str(error)[:500]]])
    try:
        return encode(["returned", result])
    except NotSerializable as error:
        return encode(["invalid", f"its result: {error}"])
