"""What can go wrong with a request, beyond a wrong value. `api/errors.py` gives each its HTTP status."""

from __future__ import annotations

from collections.abc import Iterable

from parakit.common.errors import UserError
from parakit.common.settings import closest_match


class UnknownModel(UserError):
    """No model of this name is served."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = list(known)
        close = closest_match(name, names)
        shown = name if len(name) <= 80 else name[:79] + "…"
        hint = f"did you mean {close}?" if close else f"models here: {', '.join(names[:20])}"
        super().__init__(f"model {shown!r} is not served here", hint)


class ContextOverflow(UserError):
    """The prompt does not fit into the context window."""

    def __init__(self, n_prompt_tokens: int, max_seq_len: int, is_least: bool = False) -> None:
        least = "at least " if is_least else ""
        super().__init__(
            f"the prompt has {least}{n_prompt_tokens} tokens, and the model's context window holds {max_seq_len},"
            " completion included",
            "shorten the prompt, or start the server with --when-full drop_oldest",
        )
        self.n_prompt_tokens, self.max_seq_len = n_prompt_tokens, max_seq_len


class ModelUnavailable(UserError):
    """A served model cannot be loaded: its folder is gone or damaged. `reason` names the folder, for the log."""

    def __init__(self, name: str, reason: UserError) -> None:
        super().__init__(f"model {name} cannot be loaded now", "the server's log has the reason")
        self.reason = reason


class OutOfMemory(UserError):
    """A model does not fit into the server's bound of memory now."""


class ShuttingDown(UserError):
    """The server takes no new requests."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down", "send the request to another server, or again later")


class Interrupted(UserError):
    """A request ended before its completion was whole."""
