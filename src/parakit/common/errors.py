"""Errors for the user.

A user's mistake raises `UserError`: the message names the offending value and the limit, the hint what to do. The command
line prints both and exits with status 2; library callers can catch a `ValueError`. Parakit's own invariants are plain
assertions and are never caught.
"""


class UserError(ValueError):
    """A mistake that the user can correct: `message` says what is wrong, `hint` what to do."""

    exit_status = 2

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n  {hint}" if hint else message)


class CorruptArtifact(UserError):
    """A file on disk is not as it was written: truncated, altered or missing."""


class UnexpectedFile(CorruptArtifact):
    """A file in an artifact folder that was not written with it; it may be the user's own."""


_NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "out of memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the system, or a card, had no memory left for what Python, numpy or PyTorch wanted."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)
