"""Errors that speak to the user.

A mistake of the user's raises `UserError`: the message names the offending value and the limit, the hint
names the way out. The command line prints both and exits with status 2; library callers can catch it as
the `ValueError` it is. Broken invariants of our own are plain assertions and are never caught.
"""


class UserError(ValueError):
    """Something the user can put right: `message` says what is wrong, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n  {hint}" if hint else message)


class CorruptArtifact(UserError):
    """A file on disk is not what was written there: cut short, altered or missing."""


class UnexpectedFile(CorruptArtifact):
    """A file lies in an artifact folder that was not written with it; it may be the user's own."""
