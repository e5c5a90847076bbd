"""`parakit chat`: chat in the terminal. Answers go to standard output, all else to standard error."""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

import parakit
from parakit.cli.generate import log_probability_figures, sampling_settings
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import GREEDY, LOG_PROBABILITIES, Needs, refuse_inert
from parakit.cli.rendering.decoding_flags import DecodingFlags, load_draft
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.inference.config import ChatConfig, WhenFull

if TYPE_CHECKING:
    from parakit.inference.chat import ChatSession


class ChatCommandConfig(DecodingFlags):
    """Chat with a model. Lines that begin with / are commands; /help lists them, /quit ends the chat."""

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    adapters: tuple[str, ...] = Field(
        default=(),
        description="Folders of adapters of the model; the first is active, and /adapter NAME switches.",
    )
    system: str = Field(default="", description="The system prompt.")
    when_full: WhenFull = Field(
        default="drop_oldest",
        description="With a full context window: drop the oldest turns with a notice, or refuse with an error.",
    )
    stats: bool = Field(
        default=False,
        description="After each answer print the tokens of prompt and answer, the time to the first token and the speed.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print each answer as one JSON object per line."
    )


ONE_ANSWER = Needs(("n",), lambda _: False, "a turn has one answer", "take parakit generate")


def main(argv: list[str]) -> int:
    """Run `parakit chat` with these arguments; 0 when the user left."""
    command = parse_command(ChatCommandConfig, argv, "parakit chat")
    refuse_inert(command, (GREEDY, LOG_PROBABILITIES, ONE_ANSWER))
    model = parakit.load(command.model, device=command.device, dtype=command.dtype, adapters=command.adapters)
    settings = load_draft(sampling_settings(command, argv, model.published), command.device, command.dtype)
    from parakit.inference.generation.drafts import (
        take_speculation,
    )  # imports torch, which --help does not need

    drafts, settings = take_speculation(settings, model)
    sampling = model.sampling_config(**settings)
    session = model.chat_session(
        ChatConfig(system=command.system, when_full=command.when_full, sampling=sampling), drafts
    )
    if not model.chat_tuned:
        log(
            f"{command.model}: was not tuned for chat and may answer poorly; `parakit generate` continues a text"
        )
    if sys.stdin.isatty():
        log("/help lists the commands, /quit leaves")
    for line in _lines():
        if not _turn(session, line, command):
            break
    return 0


def _lines() -> Iterator[str]:
    """The user's lines until the input ends; Ctrl-C at the prompt ends it too."""
    on_terminal = sys.stdin.isatty()
    while True:
        try:
            yield input("\nyou> " if on_terminal else "")
        except (EOFError, KeyboardInterrupt):
            return


def _turn(session: "ChatSession", line: str, command: ChatCommandConfig) -> bool:
    """Handle one line; False when it was the last. An error costs the line, not the conversation."""
    try:
        reply = session.handle(line)
    except UserError as error:
        log(str(error))
        return True
    if reply.notice:
        log(reply.notice)
    if reply.answer is not None:
        _print_answer(session, reply.answer, command)
    return not reply.quit


def _print_answer(session: "ChatSession", answer: Iterator[str], command: ChatCommandConfig) -> None:
    """Print an answer while it is generated; Ctrl-C stops it, and the history keeps what there is."""
    try:
        for piece in answer:
            if not command.as_json:
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        log("\n(stopped)")
    completion = session.last
    if completion is None:
        return
    if command.as_json:
        figures = {
            "text": completion.text,
            "n_prompt_tokens": completion.n_prompt_tokens,
            "n_tokens": completion.n_tokens,
            "finish_reason": completion.finish_reason,
            "seconds_to_first_token": round(completion.seconds_to_first_token, 4),
            "tokens_per_second": round(completion.tokens_per_second, 2),
        }
        figures |= log_probability_figures(completion, session.tokenizer)
        print(json.dumps(figures, ensure_ascii=False), flush=True)
        return
    print(flush=True)
    cut = ", cut at the limit" if completion.finish_reason == "length" else ""
    log(f"({completion.n_tokens} tokens, {completion.tokens_per_second:.0f} tokens/s{cut})")
    if command.stats:
        log(session.stats_of_last())
