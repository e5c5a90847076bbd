"""`parakit COMMAND ...`: import the command's module and run it. Other commands are not imported, so help is fast."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
    "agent": "Let a model work on a task with tools: functions, MCP servers.",
    "mcp": "Serve Parakit to other assistants: its tools over MCP.",
    "serve": "Serve models over HTTP, as OpenAI's clients speak.",
    "index": "Index documents, search them, and measure how well they are found.",
    "ask": "Answer a question from an index of documents, with checked citations.",
    "prompts": "Run prompts on a table of inputs, and compare them: score and tokens.",
    "predict": "Classify, tag, score, translate, embed, or fill masks.",
    "bench": "Measure how fast a model reads and writes, against what memory allows.",
    "redteam": "Red-team a model: attack success by category, with transcripts.",
    "import": "Import a published model, from a folder or the Hugging Face hub.",
    "export": "Export a model as a plain Hugging Face folder.",
    "runs": "List training runs, compare them, plot their curves.",
    "doctor": "Check a model and its data for silent mistakes before training.",
    "inspect": "Look inside a model: attention, heads, neurons, and what changes without them.",
    "studio": "Open the studio in a browser: chat, compare, look inside, train.",
    "keys": "Make, list and revoke the API keys of the server.",
    "usage": "Requests, tokens and money by key, model and day.",
    "show": "Describe a folder: what it holds and how it was made.",
}
# `import` is a Python keyword and `inspect` a module of Python's, so theirs have other names; `export` follows.
# Verbs in which all processes of a run take part; the others run in its first process.
PARALLEL = {"build", "pretrain", "finetune", "align", "distill"}
ERROR_DELAY = 2.0  # seconds
MEMORY_HINT = "end other programs, or take a smaller model; of what runs out in training, `parakit plan` shows the parts"
_MODULES = {"import": "import_model", "export": "export_model", "inspect": "inspect_model"}


def main(argv: list[str] | None = None) -> int:
    """Run the verb that `argv` names; returns the exit status: 0, 2 for a user's mistake, 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    outcome = _Outcome()
    with _closed_pipe_is_no_error():
        if not argv or argv[0] not in VERBS:
            return _without_verb(argv)
        if not _takes_part(argv[0]):
            return 0
        with _one_of_several(argv[0], outcome), _errors_in_words(outcome), _sigterm_unwinds():
            outcome.status = importlib.import_module(module_of(argv[0])).main(argv[1:])
    return outcome.status


@dataclass
class _Outcome:
    """The exit status of a verb, also where an error ended it."""

    status: int = 0


@contextlib.contextmanager
def _errors_in_words(outcome: _Outcome) -> Iterator[None]:
    """A user's mistake, an interruption and what the machine refuses are printed in a line or two."""
    from parakit.common.errors import UserError, is_out_of_memory

    try:
        yield
    except UserError as error:
        _print_error(f"error: {error}")
        outcome.status = error.exit_status
    except KeyboardInterrupt as interrupt:
        _print_error(f"\n{str(interrupt) or 'stopped'}")
        outcome.status = 128 + getattr(interrupt, "signal_number", 2)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        file = f"{error.filename}: " if error.filename else ""
        hint = "free some space or change the permissions"
        _print_error(f"error: {file}{error.strerror}\n  {hint}")
        outcome.status = 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        first = (str(error) or "no memory left").splitlines()[0]
        _print_error(f"error: the memory does not suffice: {first[:200]}\n  {MEMORY_HINT}")
        outcome.status = 2


def _takes_part(verb: str) -> bool:
    """Whether this process runs the verb: of several, each those that are `PARALLEL`, and the first the others."""
    from parakit.common.processes import is_distributed, is_first

    return verb in PARALLEL or not is_distributed() or is_first()


@contextlib.contextmanager
def _one_of_several(verb: str, outcome: _Outcome) -> Iterator[None]:
    """Of several processes, the first prints, and the others only what goes wrong in them alone."""
    from parakit.common.processes import alone, finish, is_distributed, lost_process, world_size

    if not is_distributed():
        yield
    elif verb not in PARALLEL:
        print(f"parakit {verb}: runs in the first of {world_size()} processes", file=sys.stderr)
        with alone():
            yield
    else:
        try:
            with _silent_but_first():
                yield
                if outcome.status == 0:
                    finish()
        except RuntimeError as error:
            if (lost := lost_process(error)) is None:
                raise
            print(f"error: {lost}", file=sys.stderr)
            outcome.status = 1


@contextlib.contextmanager
def _silent_but_first() -> Iterator[None]:
    """Only the first process prints."""
    from parakit.common.processes import is_first

    with contextlib.ExitStack() as stack:
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def _print_error(text: str) -> None:
    """Print to stderr; of several processes, another than the first when the first has not failed at the same time: the
    launcher then ends this one first.
    """
    from parakit.common.processes import ProcessFailed, is_first, rank

    if is_first():
        print(text, file=sys.stderr)
    elif not isinstance(sys.exc_info()[1], ProcessFailed | KeyboardInterrupt):
        time.sleep(ERROR_DELAY)
        print(f"rank {rank()}: {text.strip()}", file=sys.__stderr__)


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
