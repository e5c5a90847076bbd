"""`parakit generate`: a model goes on from a prompt, or answers it, as it is made or as one line of JSON."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro
from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.inference.config import SamplingConfig

SUMMARY = "Let a model go on from a prompt, or answer it."


class GenerateCommandConfig(SamplingConfig):
    """Let a model go on from a prompt; a model that was tuned to talk answers it."""

    model: tyro.conf.Positional[str] = Field(description="A model folder.")
    prompt: tyro.conf.Positional[str] = Field(
        default="-", description="The text to go on from, or the question; - reads standard input."
    )
    prompting: Literal["auto", "chat", "plain"] = Field(
        default="auto", description="Ask by the chat template, as plain text, or as the model was tuned."
    )
    system: str = Field(default="", description="What a model is told before the question (chat only).")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the completion as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit generate` with these arguments; 0 when a completion was made."""
    command = tyro.cli(
        GenerateCommandConfig, args=argv, prog="parakit generate", config=(tyro.conf.FlagCreatePairsOff,)
    )
    text = sys.stdin.read() if command.prompt == "-" else command.prompt
    from parakit.cli.rendering.model_loading import load_talker
    from parakit.data.conversations.conversation import Message
    from parakit.inference.generation.text import Prompt, stream

    talker = load_talker(command.model, command.device, command.dtype, command.prompting)
    if command.system and not talker.chat:
        raise UserError("--system needs a model that is asked by the chat template", "add --prompting chat")
    prompt: Prompt = text
    if talker.chat:
        system = [Message("system", command.system)] if command.system else []
        prompt = [*system, Message("user", text)]
    pieces = stream(talker.model, talker.tokenizer, prompt, sampling_of(command, command.model, argv))
    for piece in pieces:
        if not command.as_json:
            print(piece, end="", flush=True)
    done = pieces.completion
    if command.as_json:
        figures = {
            "text": done.text,
            "n_prompt_tokens": done.n_prompt_tokens,
            "n_tokens": done.n_tokens,
            "finish_reason": done.finish_reason,
            "seconds": round(done.seconds, 4),
            "tokens_per_second": round(done.tokens_per_second, 2),
            "prompting": "chat" if talker.chat else "plain",
        }
        print(json.dumps(figures, ensure_ascii=False))
    else:
        print()
    return 0


def sampling_of(command: SamplingConfig, model: str, argv: Sequence[str]) -> SamplingConfig:
    """The sampling settings among a command's own; those that no word of `argv` names are the publisher's, where the model
    has one that said them.
    """
    from parakit.checkpoints.generation_settings import GENERATION, published_sampling
    from parakit.cli.rendering.model_loading import model_folder

    folder = model_folder(model)
    published = published_sampling(folder)
    if published:
        SamplingConfig.parse(published, str(folder / GENERATION))
    said = {name: getattr(command, name) for name in SamplingConfig.model_fields}
    named = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    taken = {name: value for name, value in published.items() if name not in named}
    if taken:
        log("as its publisher has it: " + ", ".join(f"{name} {value:g}" for name, value in taken.items()))
    return SamplingConfig.parse(said | taken, "sampling")
