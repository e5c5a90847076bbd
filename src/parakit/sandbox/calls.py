"""Calls from one confined process to another, by plain data: the program that is judged answers, the tests ask.

What comes back can be no more than data or an exception of a built-in kind, made anew on the side of the tests. It can
say anything; it can do nothing. A program that is gone, or whose answer is no plain data, raises what is no
`Exception`, so that no test which expects one takes it for that.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Callable
from typing import IO, Any

from parakit.sandbox.codec import MAX_LINE, NotPlain, WrongKind, from_line, to_line

# Raised by a function in the midst of somebody's loop, these would end the loop as if all were well.
_ENDS_LOOPS = ("StopIteration", "StopAsyncIteration", "GeneratorExit")


class CandidateError(Exception):
    """The program raised an exception of its own kind."""


class CandidateGone(BaseException):
    """The program ended, or gave no plain data: no test can pass on that."""


class BrokenTest(BaseException):
    """The tests asked what cannot be asked; the program is not to blame."""


class Candidate:
    """The other side's functions. `n_calls` counts what was asked."""

    def __init__(self, asking: IO[bytes], answering: IO[bytes]) -> None:
        self.asking, self.answering, self.n_calls = asking, answering, 0

    def function(self, name: str) -> Callable[..., Any]:
        """The function of that name: arguments and result travel by value."""

        def call(*arguments: Any, **named: Any) -> Any:
            return self._call(name, arguments, named)

        call.__name__ = call.__qualname__ = name
        return call

    def _call(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        try:
            line = to_line([name, arguments, named])
        except WrongKind as error:
            raise BrokenTest(f"arguments of {name}: {error}") from None
        except NotPlain as error:  # too large or too deep, and perhaps made of what the program gave before
            raise CandidateGone(f"arguments of {name}: {error}") from None
        self.n_calls += 1
        try:
            self.asking.write(line)
            self.asking.flush()
            answer = self.answering.readline(MAX_LINE + 1)
            if not answer:
                raise CandidateGone(f"the program ended before {name} answered")
            kind, value = from_line(answer)
        except (OSError, NotPlain, ValueError, TypeError) as error:
            raise CandidateGone(f"{name} gave no answer ({error})") from None
        if kind == "gives":
            return value
        if kind == "raises":
            raise _exception(*value)
        raise CandidateGone(f"{name}: {value}")


def _exception(kind: object, message: object) -> Exception:
    found: Any = getattr(builtins, kind, None) if isinstance(kind, str) else None
    error: Exception = CandidateError(f"{kind}: {message}")
    if isinstance(found, type) and issubclass(found, Exception) and kind not in _ENDS_LOOPS:
        with contextlib.suppress(Exception):  # some want more to be made of
            error = found(message)
    error.from_candidate = True  # type: ignore[attr-defined]
    return error


def answer_calls(namespace: dict[str, Any], asked: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until nobody asks any more. Runs beside code that may have changed everything around it: nobody trusts
    what it says.
    """
    while line := asked.readline():
        name, arguments, named = from_line(line)
        answers.write(_answer(namespace, name, arguments, named))
        answers.flush()


def _answer(namespace: dict[str, Any], name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> bytes:
    if name not in namespace:
        return to_line(["raises", ["NameError", f"name {name!r} is not defined"]])
    try:
        found = namespace[name](*arguments, **named)
    except Exception as error:
        return to_line(["raises", [type(error).__name__, str(error)[:500]]])
    try:
        return to_line(["gives", found])
    except NotPlain as error:
        return to_line(["gone", f"its result is {error}"])
