"""`parakit inspect activations`: what a model computes for a text, written to a file for one's own analysis."""

from __future__ import annotations

import json

from pydantic import Field

from parakit.cli.inspecting.options import InspectTextConfig, new_page, opened_model, text_of
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, refuse_inert
from parakit.common.progress import log


class InspectActivationsCommandConfig(InspectTextConfig):
    """Write named arrays of one forward pass to a .safetensors file, and what they are to a .json file next to it. Without
    --output: list them.
    """

    names: tuple[str, ...] = Field(
        default=("*.output",),
        description="Which: blocks.3.attention.weights, blocks.*.feed_forward.neurons, logits; * matches any part.",
    )
    output: str | None = Field(default=None, description="The file to write: NAME.safetensors.")
    overwrite: bool = Field(default=False, description="Replace an existing file.")


def main(argv: list[str]) -> int:
    """Run `parakit inspect activations` with these arguments."""
    command = parse_command(InspectActivationsCommandConfig, argv, "parakit inspect activations")
    refuse_inert(command, (OVERWRITES,))
    path = new_page(command.output, command.overwrite, ".safetensors")
    text = text_of(command)
    from parakit.inspection.capture import activations
    from parakit.inspection.inputs import encode_input

    with opened_model(command) as model:
        given = encode_input(model, text, command.target)
        found = activations(model, given, command.names)
    about = {
        "model": command.model,
        "tokens": given.tokens,
        "token_ids": given.token_ids,
        "source_tokens": given.source_tokens,
        "source_ids": given.source_ids,
        "arrays": {name: {"shape": array.shape, "dtype": str(array.dtype)} for name, array in found.items()},
    }
    if path is not None:
        from parakit.inspection.activation_files import write_activations

        write_activations(path, found, about)
        log(f"{len(found)} arrays: {path}, {path.with_suffix('.json')}")
    if command.as_json:
        print(json.dumps(about, ensure_ascii=False))
    elif path is None:
        for name, array in found.items():
            print(f"{name:<40} {' x '.join(map(str, array.shape)):<20} {array.dtype}")
    return 0
