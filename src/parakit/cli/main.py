"""`parakit COMMAND ...`: import the command's module and run it. Other commands are not imported, so help is fast."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

# Errors of the machine, which are printed in one line, as a user's mistake is.
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE}

VERBS = {
    "build": "Build a model from a recipe or from text: all stages in one command.",
    "plan": "Plan a run before it starts: memory, time, money, and what fits.",
    "scale": "Fit a scaling law to small runs of a recipe, and predict larger ones.",
    "text": "Prepare text, conversations, preferences or examples for training.",
    "tokenizer": "Train a tokenizer, encode a corpus with it, or compare several.",
    "pretrain": "Pre-train a language model on token shards.",
    "finetune": "Fine-tune a model for chat or another task: all weights or an adapter.",
    "align": "Align a chat-tuned model: reward model, DPO, PPO, GRPO and more.",
    "distill": "Train a smaller model on the outputs of a larger one.",
    "quantize": "Quantize a model to int8 or int4 weights, and measure what that costs.",
    "merge": "Merge an adapter into its base, or several models into their mean.",
    "evaluate": "Evaluate a model: bits per byte, task metrics, the built-in suites.",
    "compare": "Compare models by paired tests: better, worse, or cannot tell.",
    "judge": "Let a model compare or grade the answers of others, and rate them.",
    "generate": "Generate text from a prompt.",
    "chat": "Chat with a model.",
    "serve": "Serve models over HTTP, as OpenAI's clients speak.",
    "predict": "Classify, tag, score, translate, embed, or fill masks.",
    "bench": "Measure how fast a model reads and writes, against what memory allows.",
    "redteam": "Red-team a model: attack success by category, with transcripts.",
    "import": "Import a published model, from a folder or the Hugging Face hub.",
    "export": "Export a model as a plain Hugging Face folder.",
    "doctor": "Check a model and its data for silent mistakes before training.",
    "inspect": "Look inside a model: attention, heads, neurons, and what changes without them.",
    "studio": "Open the studio in a browser: chat, compare, look inside, train.",
    "keys": "Make, list and revoke the API keys of the server.",
    "usage": "Requests, tokens and money by key, model and day.",
    "show": "Describe a folder: what it holds and how it was made.",
}
# `import` is a Python keyword and `inspect` a module of Python's, so theirs have other names; `export` follows.
_MODULES = {"import": "import_model", "export": "export_model", "inspect": "inspect_model"}


def main(argv: list[str] | None = None) -> int:
    """Run the verb that `argv` names; returns the exit status: 0, 2 for a user's mistake, 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    status = 0
    with _closed_pipe_is_no_error():
        if not argv or argv[0] not in VERBS:
            return _without_verb(argv)
        from parakit.common.errors import UserError

        try:
            with _sigterm_unwinds():
                status = importlib.import_module(module_of(argv[0])).main(argv[1:])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            status = error.exit_status
        except KeyboardInterrupt as interrupt:
            print(f"\n{str(interrupt) or 'stopped'}", file=sys.stderr)
            status = 128 + getattr(interrupt, "signal_number", 2)
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
            file = f"{error.filename}: " if error.filename else ""
            hint = "free some space or change the permissions"
            print(f"error: {file}{error.strerror}\n  {hint}", file=sys.stderr)
            status = 2
    return status


def module_of(verb: str) -> str:
    """The module that runs a verb."""
    return f"parakit.cli.{_MODULES.get(verb, verb)}"


def _without_verb(argv: list[str]) -> int:
    """Help, the version, or the error for an unknown verb."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if argv[0] in ("-V", "--version", "version"):
        from parakit.common.hardware import parakit_version

        print(f"parakit {parakit_version()}")
        return 0
    from parakit.common.settings import closest_match

    close = closest_match(argv[0], VERBS)
    meant = f"did you mean `parakit {close}`?" if close else "`parakit --help` lists the commands"
    print(f"error: no command {argv[0]!r}\n  {meant}", file=sys.stderr)
    return 2


@contextlib.contextmanager
def _closed_pipe_is_no_error() -> Iterator[None]:
    """A reader that closes our output early, as `head` does, ends the command without an error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit


class _Terminated(KeyboardInterrupt):
    signal_number = signal.SIGTERM


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does, so that half-written folders are removed on the way out."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    try:
        previous = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # outside the main thread signals cannot be caught
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _help() -> str:
    lines = ["usage: parakit VERB [options]        parakit VERB --help", "", "Make for language models.", ""]
    lines += [f"  {verb:<10} {summary}" for verb, summary in VERBS.items()]
    return "\n".join(
        [
            *lines,
            "",
            "Start with `parakit build`, which needs no data, or with `parakit build --text PATH`.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
