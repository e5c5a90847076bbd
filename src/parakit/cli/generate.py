"""`parakit generate`: generate the completion of a prompt, as text or JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro
from pydantic import Field

import parakit
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import GREEDY, LOG_PROBABILITIES, refuse_inert
from parakit.cli.rendering.decoding.decoding_flags import DecodingFlags, load_draft, read_files
from parakit.cli.rendering.decoding.thinking import HIDE_THINKING, ReplyPrinter
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Config
from parakit.inference.config import (
    BeamConfig,
    DecodingSettings,
    SamplingConfig,
    SamplingSettings,
    StopWhen,
    decoding_method,
)

if TYPE_CHECKING:
    from parakit.inference.generation.completion import Completion, Prompt
    from parakit.inference.generation.sampling import Alternative, Choice
    from parakit.inference.generation.text import CompletionStream
    from parakit.inference.loaded_model import Model
    from parakit.inference.tool_calls.replies import ReadReply, ReplyStream
    from parakit.tokens.tokenizer.tokenizer import Tokenizer


def _of_beams(name: str) -> str:
    return f"Beams: {BeamConfig.model_fields[name].description}"


class GenerateCommandConfig(DecodingFlags):
    """Generate the continuation of a prompt; a chat-tuned model answers it."""

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    prompt: tyro.conf.Positional[str] = Field(
        default="-", description="The text to continue, or the question; - reads standard input."
    )
    prompting: Literal["auto", "chat", "plain"] = Field(
        default="auto",
        description="Use the chat template, plain text, or (auto) what the model was tuned for; a published model "
        "is asked by its template, if it has one.",
    )
    system: str = Field(default="", description="The system prompt (chat only).")
    batch: str | None = Field(
        default=None,
        min_length=1,
        description="Answer the requests of a file instead, one JSON object a line as OpenAI's batch files have them:"
        ' {"custom_id", "method", "url", "body"}. Lines that an interrupted run has answered are not computed again.',
    )
    output: str | None = Field(
        default=None,
        min_length=1,
        description="The file for the answers of a batch, in the order of its lines.",
    )
    n_beams: int = Field(
        default=1, ge=1, le=1000, description="Beam search with so many beams, of which the best is printed."
    )
    length_penalty: float | None = Field(default=None, description=_of_beams("length_penalty"))
    stop_when: StopWhen | None = Field(default=None, description=_of_beams("stop_when"))
    n_beam_groups: int | None = Field(default=None, description=_of_beams("n_beam_groups"))
    diversity_penalty: float | None = Field(default=None, description=_of_beams("diversity_penalty"))
    penalty_alpha: float | None = Field(
        default=None,
        description="Contrastive search: of the --top-k likeliest tokens (4) the one that is least like the text so far,"
        " which has this weight; 0.6 is usual.",
    )
    hide_thinking: bool = Field(default=False, description=HIDE_THINKING)
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print each completion (each beam) as one JSON object."
    )


_OF_BATCHES = frozenset(("model", "batch", "output", "device", "dtype", "as_json", "cache_dtype"))
_CHOSEN = {  # by whether it is a chat
    True: "prompting: chat, as the model was tuned (--prompting plain continues the text)",
    False: "prompting: plain, the text is continued (--prompting chat asks by the chat template)",
}


def main(argv: list[str]) -> int:
    """Run `parakit generate` with these arguments; 0 when a completion was made."""
    command = parse_command(GenerateCommandConfig, argv, "parakit generate")
    if command.batch is not None or command.output is not None:
        return _answer_batch(command)
    refuse_inert(command, (GREEDY, LOG_PROBABILITIES))
    text = sys.stdin.read() if command.prompt == "-" else command.prompt
    model = parakit.load(command.model, device=command.device, dtype=command.dtype)
    is_chat = model.chat_tuned if command.prompting == "auto" else command.prompting == "chat"
    if command.prompting == "auto" and not command.as_json:
        log(_CHOSEN[is_chat])
    if command.system and not is_chat:
        raise UserError(
            "--system needs a model that is prompted by the chat template", "add --prompting chat"
        )
    prompt: Prompt = text
    if is_chat:
        system = [{"role": "system", "content": command.system}] if command.system else []
        prompt = [*system, {"role": "user", "content": text}]
    settings = sampling_settings(command, argv, model.published, DecodingSettings)
    settings = load_draft(settings, command.device, command.dtype)
    method = {name: value for name, value in settings.items() if name not in ("draft", "prompt_lookup")}
    if isinstance(decoding_method(method, model.published), SamplingConfig) and command.n == 1:
        stream = model.stream(prompt, **{k: v for k, v in settings.items() if k != "n_beams"})
        parts = _parts(model, stream, settings) if is_chat else None
        printer = ReplyPrinter(command.hide_thinking)
        for piece in parts or stream:
            if not command.as_json:
                printer.show(piece)
        if not command.as_json:
            if n_dropped := stream.completion.n_dropped_tokens:
                log(
                    f"\nthe context window is full: {n_dropped} tokens at the beginning of the prompt were left out"
                )
            printer.finish()
        _report(
            [parts.completion if parts else stream.completion],
            [parts.reply if parts else None],
            model,
            command,
        )
        return 0
    completions = model.completions(prompt, **settings)
    replies = [_read(model, completion, settings) if is_chat else None for completion in completions]
    if not command.as_json:
        _print(completions[: command.n], replies, command)
    _report(completions, replies, model, command)
    return 0


def _parts(model: "Model", stream: "CompletionStream", settings: JsonObject) -> "ReplyStream":
    from parakit.inference.tool_calls.replies import ReplyStream

    return ReplyStream(model.tokenizer, stream, _stop(model, settings))


def _print(
    completions: "Sequence[Completion]",
    replies: "Sequence[ReadReply | None]",
    command: GenerateCommandConfig,
) -> None:
    for completion, reply in zip(completions, replies, strict=False):
        printer = ReplyPrinter(command.hide_thinking)
        for piece in reply.pieces if reply else (completion.text,):
            printer.show(piece)
        printer.finish()


def _stop(model: "Model", settings: JsonObject) -> Sequence[str]:
    return {**model.published, **settings}.get("stop", ())


def _read(model: "Model", completion: "Completion", settings: JsonObject) -> "ReadReply":
    from parakit.inference.tool_calls.replies import read_reply

    found = read_reply(model.tokenizer, completion.token_ids, _stop(model, settings))
    return found if found.reasoning else replace(found, text=completion.text)


def _report(
    completions: "Sequence[Completion]",
    replies: "Sequence[ReadReply | None]",
    model: "Model",
    command: GenerateCommandConfig,
) -> None:
    """Completions as JSON, or what drafts were worth."""
    for completion, reply in zip(completions, replies, strict=True):
        if not command.as_json:
            if completion.speculation:
                log(str(completion.speculation))
            continue
        figures = completion_figures(completion, model)
        if reply is not None and reply.reasoning:
            figures["text"] = reply.text
            figures |= {} if command.hide_thinking else reasoning_figures(reply)
        figures["prompting"] = "plain" if reply is None else "chat"
        print(json.dumps(figures, ensure_ascii=False))


def reasoning_figures(reply: "ReadReply") -> JsonObject:
    """The reasoning before an answer as JSON; nothing where there is none."""
    if not reply.reasoning:
        return {}
    return {"reasoning": reply.reasoning, "n_reasoning_tokens": reply.n_reasoning_tokens}


def _answer_batch(command: GenerateCommandConfig) -> int:
    """Run the batch; 0 where every line was answered, else 1. `UserError` for flags that belong to a single prompt."""
    if command.batch is None or command.output is None:
        given, missing = ("--output", "--batch") if command.batch is None else ("--batch", "--output")
        raise UserError(
            f"{given} is set without {missing}", "parakit generate MODEL --batch FILE --output OUT"
        )
    others = sorted(command.model_fields_set - _OF_BATCHES - ({"prompt"} if command.prompt == "-" else set()))
    if others:
        flag = "the prompt" if others[0] == "prompt" else f"--{others[0].replace('_', '-')}"
        raise UserError(
            f"{flag} has no effect with --batch: each line has its own settings",
            "remove it, or set it in the lines",
        )
    try:
        from parakit.serving.batches.offline import run_batch_file
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "prometheus_client", "starlette"):
            raise
        raise UserError(f"batches need the package {error.name}", "pip install 'parakit[serve]'") from None
    from parakit.serving.config import ServeConfig

    settings = {"device": command.device, "dtype": command.dtype, "cache_dtype": command.cache_dtype}
    done = run_batch_file(command.model, command.batch, command.output, ServeConfig.parse(settings))
    if command.as_json:
        figures = {"n_lines": done.n_lines, "n_failed": done.n_failed, "n_answered_before": done.n_before}
        print(json.dumps({"output": str(done.output), **figures}))
    else:
        before = f", {done.n_before:,} of them by an earlier run" if done.n_before else ""
        log(f"{done.output}: {done.n_lines:,} answers{before}, {done.n_failed:,} with an error")
    return 1 if done.n_failed else 0


def completion_figures(completion: "Completion", model: "Model") -> JsonObject:
    """A completion as JSON; its score and log-probabilities where it has them."""
    figures: JsonObject = {
        "text": completion.text,
        "n_prompt_tokens": completion.n_prompt_tokens,
        "n_dropped_tokens": completion.n_dropped_tokens,
        "n_tokens": completion.n_tokens,
        "finish_reason": completion.finish_reason,
        "seconds": round(completion.seconds, 4),
        "tokens_per_second": round(completion.tokens_per_second, 2),
    }
    if completion.speculation is not None:
        figures["accepted_share"] = round(completion.speculation.accepted_share, 4)
        figures["tokens_per_forward"] = round(completion.speculation.tokens_per_forward, 3)
    if completion.score is not None:
        figures["score"] = round(completion.score, 6)
    return figures | log_probability_figures(completion, model.tokenizer)


def log_probability_figures(completion: "Completion", tokenizer: "Tokenizer") -> JsonObject:
    """The log-probabilities of a completion's tokens with their alternatives; nothing where it has none."""

    def shown(token: "Choice | Alternative") -> JsonObject:
        text = tokenizer.decode([token.token_id])
        return {"token_id": token.token_id, "text": text, "log_probability": token.log_probability}

    tokens = [
        shown(one) | {"alternatives": list(map(shown, one.alternatives))}
        for one in completion.log_probabilities
    ]
    return {"log_probabilities": tokens} if tokens else {}


def sampling_settings(
    command: Config, argv: Sequence[str], published: Mapping[str, Any], kind: type[Any] = SamplingSettings
) -> Any:
    """The settings of sampling (or another kind) that flags of `argv` set; prints the published ones that none overrides."""
    flags = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    published_defaults = {name: value for name, value in published.items() if name not in flags}
    if published_defaults:
        log(
            "published settings: "
            + ", ".join(f"{name} {_shown(value)}" for name, value in published_defaults.items())
        )
    settings = {
        name: getattr(command, name) for name in get_type_hints(kind) if name in command.model_fields_set
    }
    return read_files(settings)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
