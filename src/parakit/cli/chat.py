"""`parakit chat`: a conversation in the terminal. What the model says goes to standard output, all else
to standard error.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field

from parakit.cli.generate import sampling_of
from parakit.cli.main import merge_repeated_flags
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.inference.config import ChatConfig, SamplingConfig

if TYPE_CHECKING:
    from parakit.inference.chat import ChatSession

SUMMARY = "Talk to a model in the terminal."


class ChatCommandConfig(SamplingConfig):
    """Talk to a model. Lines that begin with / are commands; /help lists them, /quit leaves."""

    model: tyro.conf.Positional[str] = Field(description="A model folder.")
    adapters: tuple[str, ...] = Field(
        default=(),
        description="Adapters' folders beside the model; the first is on, /adapter NAME takes another.",
    )
    system: str = Field(default="", description="What the model is told before the conversation.")
    when_full: Literal["refuse", "drop_oldest"] = Field(
        default="refuse",
        description="Context window full: say so, or leave out the oldest turns and say which.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print each answer as one JSON object a line."
    )


def main(argv: list[str]) -> int:
    """Run `parakit chat` with these arguments; 0 when the user left."""
    argv = merge_repeated_flags(argv, ["--adapters"])
    command = tyro.cli(
        ChatCommandConfig, args=argv, prog="parakit chat", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from parakit.cli.rendering.model_loading import load_adapters, load_talker, model_folder
    from parakit.inference.chat import ChatSession
    from parakit.inference.folder_settings import is_chat_tuned

    talker = load_talker(command.model, command.device, command.dtype, "chat")
    adapters = load_adapters(talker, command.model, command.adapters) if command.adapters else None
    folders = [model_folder(command.model), *map(Path, command.adapters)]
    if not any(map(is_chat_tuned, folders)):
        log(f"{command.model} was not tuned to talk and may ramble; `parakit generate` goes on from a text")
    config = ChatConfig(
        system=command.system, when_full=command.when_full, sampling=sampling_of(command, command.model, argv)
    )
    session = ChatSession(talker.model, talker.tokenizer, config, adapters)
    if sys.stdin.isatty():
        log("/help lists the commands, /quit leaves")
    for line in _lines():
        if not _turn(session, line, command.as_json):
            break
    return 0


def _lines() -> Iterator[str]:
    """Lines the user types, until the input ends. Ctrl-C at the prompt leaves too."""
    on_terminal = sys.stdin.isatty()
    while True:
        try:
            yield input("\nyou> " if on_terminal else "")
        except (EOFError, KeyboardInterrupt):
            return


def _turn(session: "ChatSession", line: str, as_json: bool) -> bool:
    """One line of the user's; False when it was the last. A mistake costs the line, not the conversation."""
    try:
        reply = session.handle(line)
    except UserError as error:
        log(str(error))
        return True
    if reply.notice:
        log(reply.notice)
    if reply.answer is not None:
        _speak(session, reply.answer, as_json)
    return not reply.quit


def _speak(session: "ChatSession", answer: Iterator[str], as_json: bool) -> None:
    """Print an answer as it is made; Ctrl-C stops the answer and keeps what was said."""
    try:
        for piece in answer:
            if not as_json:
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        log("\n(stopped)")
    done = session.last
    if done is None:
        return
    if as_json:
        figures = {"text": done.text, "n_tokens": done.n_tokens, "finish_reason": done.finish_reason}
        print(
            json.dumps(figures | {"tokens_per_second": round(done.tokens_per_second, 2)}, ensure_ascii=False),
            flush=True,
        )
        return
    print(flush=True)
    cut = ", cut at the limit" if done.finish_reason == "length" else ""
    log(f"({done.n_tokens} tokens, {done.tokens_per_second:.0f} tokens/s{cut})")
