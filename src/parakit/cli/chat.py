"""`parakit chat`: chat in the terminal. Answers go to standard output, all else to standard error."""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

import parakit
from parakit.assistants.retrieval.config import Rewrite
from parakit.cli.generate import log_probability_figures, reasoning_figures, sampling_settings
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import GREEDY, LOG_PROBABILITIES, Needs, refuse_inert
from parakit.cli.rendering.decoding.decoding_flags import DecodingFlags, load_draft
from parakit.cli.rendering.decoding.thinking import HIDE_THINKING, ReplyPrinter
from parakit.cli.rendering.documents.passages import citation_lines, context_lines
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.inference.config import ChatConfig, WhenFull

if TYPE_CHECKING:
    from parakit.assistants.retrieval.chatting import DocumentChat
    from parakit.inference.chat import ChatSession
    from parakit.inference.loaded_model import Model
    from parakit.inference.tool_calls.reasoning import ReasoningDelta


class ChatCommandConfig(DecodingFlags):
    """Chat with a model. Lines that begin with / are commands; /help lists them, /quit ends the chat."""

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    adapters: tuple[str, ...] = Field(
        default=(),
        description="Folders of adapters of the model; the first is active, and /adapter NAME switches.",
    )
    system: str = Field(default="", description="The system prompt.")
    documents: str | None = Field(
        default=None,
        description="The folder of an index (parakit index): answers come from its documents, with checked citations.",
    )
    rewrite: Rewrite = Field(
        default="words",
        description="With --documents, queries of follow-up questions: words adds those of earlier questions, model lets the"
        " model rewrite them, none takes them as they are.",
    )
    when_full: WhenFull = Field(
        default="drop_oldest",
        description="With a full context window: drop the oldest turns with a notice, or refuse with an error.",
    )
    hide_thinking: bool = Field(default=False, description=HIDE_THINKING)
    stats: bool = Field(
        default=False,
        description="After each answer print the tokens of prompt and answer, the time to the first token and the speed.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print each answer as one JSON object per line."
    )


REWRITES = Needs(
    ("rewrite",), lambda command: command.documents, "no documents are searched", "add --documents INDEX"
)
DROPS = Needs(
    ("when_full",),
    lambda command: not command.documents,
    "with documents the oldest turns are left out, and a line says so",
    "chat without --documents",
)
ONE_ANSWER = Needs(("n",), lambda _: False, "a turn has one answer", "take parakit generate")


def main(argv: list[str]) -> int:
    """Run `parakit chat` with these arguments; 0 when the user left."""
    command = parse_command(ChatCommandConfig, argv, "parakit chat")
    refuse_inert(command, (GREEDY, LOG_PROBABILITIES, ONE_ANSWER, REWRITES, DROPS))
    model = parakit.load(command.model, device=command.device, dtype=command.dtype, adapters=command.adapters)
    settings = load_draft(sampling_settings(command, argv, model.published), command.device, command.dtype)
    from parakit.inference.generation.drafts import (
        take_speculation,
    )  # imports torch, which --help does not need

    drafts, settings = take_speculation(settings, model)
    sampling = model.sampling_config(**settings)
    documents = _documents(model, command, sampling.max_new_tokens) if command.documents else None
    session = model.chat_session(
        ChatConfig(system=command.system, when_full=command.when_full, sampling=sampling),
        drafts,
        documents.prepare if documents else None,
    )
    if not model.chat_tuned:
        log(
            f"{command.model}: was not tuned for chat and may answer poorly; `parakit generate` continues a text"
        )
    if sys.stdin.isatty():
        log("/help lists the commands, /quit leaves")
    for line in _lines():
        if not _turn(session, line, command, documents):
            break
    return 0


def _documents(model: "Model", command: ChatCommandConfig, max_new_tokens: int) -> "DocumentChat":
    from parakit.api_documents import document_assistant
    from parakit.assistants.retrieval.chatting import DocumentChat

    assert command.documents is not None
    assistant = document_assistant(
        model,
        command.documents,
        device=command.device,
        rewrite=command.rewrite,
        max_new_tokens=max_new_tokens,
    )
    return DocumentChat(assistant)


def _lines() -> Iterator[str]:
    """The user's lines until the input ends; Ctrl-C at the prompt ends it too."""
    on_terminal = sys.stdin.isatty()
    while True:
        try:
            yield input("\nyou> " if on_terminal else "")
        except (EOFError, KeyboardInterrupt):
            return


def _turn(
    session: "ChatSession", line: str, command: ChatCommandConfig, documents: "DocumentChat | None" = None
) -> bool:
    """Handle one line; False when it was the last. An error costs the line, not the conversation."""
    try:
        reply = session.handle(line)
    except UserError as error:
        log(str(error))
        return True
    if reply.notice:
        log(reply.notice)
    if reply.answer is not None:
        _print_answer(session, reply.answer, command, documents)
    return not reply.quit


def _print_answer(
    session: "ChatSession",
    answer: "Iterator[str | ReasoningDelta]",
    command: ChatCommandConfig,
    documents: "DocumentChat | None" = None,
) -> None:
    """Print an answer while it is generated; Ctrl-C stops it, and the history keeps what there is."""
    printer = ReplyPrinter(command.hide_thinking)
    try:
        for piece in answer:
            if not command.as_json:
                printer.show(piece)
    except KeyboardInterrupt:
        log("\n(stopped)")
    completion = session.last
    if completion is None:
        return
    if command.as_json:
        figures: JsonObject = {
            "text": completion.text,
            "n_prompt_tokens": completion.n_prompt_tokens,
            "n_tokens": completion.n_tokens,
            "finish_reason": completion.finish_reason,
            "seconds_to_first_token": round(completion.seconds_to_first_token, 4),
            "tokens_per_second": round(completion.tokens_per_second, 2),
        }
        if not command.hide_thinking:
            figures |= reasoning_figures(session.last_reply)
        figures |= log_probability_figures(completion, session.tokenizer)
        figures |= {"documents": documents.finish(completion.text).to_json()} if documents else {}
        print(json.dumps(figures, ensure_ascii=False), flush=True)
        return
    printer.finish()
    if documents:
        checked = documents.finish(completion.text)
        for line in (*citation_lines(checked), *context_lines(checked)):
            log(line)
    n_thinking = session.last_reply.n_reasoning_tokens
    thinking = f", {n_thinking} of them thinking" if n_thinking else ""
    cut = ", cut at the limit" if completion.finish_reason == "length" else ""
    log(f"({completion.n_tokens} tokens{thinking}, {completion.tokens_per_second:.0f} tokens/s{cut})")
    if command.stats:
        log(session.stats_of_last())
