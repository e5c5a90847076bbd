"""`parakit generate`: generate the completion of a prompt, as text or JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field

import parakit
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import GREEDY, refuse_inert
from parakit.cli.rendering.decoding_flags import DecodingFlags, read_constraint_files
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Config
from parakit.inference.config import SamplingConfig

if TYPE_CHECKING:
    from parakit.inference.generation.text import Prompt


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
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the completion as one JSON object."
    )


_CHOSEN = {  # by whether it is a chat
    True: "prompting: chat, as the model was tuned (--prompting plain continues the text)",
    False: "prompting: plain, the text is continued (--prompting chat asks by the chat template)",
}


def main(argv: list[str]) -> int:
    """Run `parakit generate` with these arguments; 0 when a completion was made."""
    command = parse_command(GenerateCommandConfig, argv, "parakit generate")
    refuse_inert(command, (GREEDY,))
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
    pieces = model.stream(prompt, **sampling_settings(command, argv, model.published))
    for piece in pieces:
        if not command.as_json:
            print(piece, end="", flush=True)
    completion = pieces.completion
    if command.as_json:
        figures = {
            "text": completion.text,
            "n_prompt_tokens": completion.n_prompt_tokens,
            "n_tokens": completion.n_tokens,
            "finish_reason": completion.finish_reason,
            "seconds": round(completion.seconds, 4),
            "tokens_per_second": round(completion.tokens_per_second, 2),
            "prompting": "chat" if is_chat else "plain",
        }
        print(json.dumps(figures, ensure_ascii=False))
    else:
        print()
    return 0


def sampling_settings(
    command: Config, argv: Sequence[str], published: Mapping[str, Any], kind: type[Config] = SamplingConfig
) -> JsonObject:
    """A command's settings of sampling (or another kind) without the published ones, which are printed, that no flag of
    `argv` overrides.
    """
    flags = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    published_defaults = {name: value for name, value in published.items() if name not in flags}
    if published_defaults:
        log(
            "published settings: "
            + ", ".join(f"{name} {_shown(value)}" for name, value in published_defaults.items())
        )
    settings = {name: getattr(command, name) for name in kind.model_fields if name not in published_defaults}
    return read_constraint_files(settings)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
