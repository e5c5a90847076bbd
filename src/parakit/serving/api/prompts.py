"""The key `prompt` of a request: which served prompt, and the values of its fields, as OpenAI's Responses form has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from parakit.common.settings import closest_match
from parakit.serving.api.errors import ApiError
from parakit.serving.api.sampling import ApiModel, ShortText
from parakit.serving.context import ServingContext

MAX_VARIABLES = 1000
VariableText = Annotated[str, Field(max_length=32_000_000)]


class TextVariable(ApiModel):
    """A value as a part of text."""

    type: Literal["input_text", "text"]
    text: VariableText


class PromptReference(ApiModel):
    """A prompt by its name, its version where that matters, and values of its fields."""

    id: ShortText | None = None
    version: ShortText | None = None
    variables: (
        Annotated[dict[ShortText, VariableText | TextVariable], Field(max_length=MAX_VARIABLES)] | None
    ) = None

    @property
    def values(self) -> dict[str, str]:
        """The values as texts."""
        variables = self.variables or {}
        return {name: one if isinstance(one, str) else one.text for name, one in variables.items()}


def read_prompt_reference(
    context: ServingContext, model: str, reference: PromptReference | None
) -> dict[str, Any]:
    """`model` and `prompt_values` of a call. `ApiError` for a prompt or a version that is not served."""
    if reference is None:
        return {"model": model}
    prompt, name = context.registry.prompt_of(model), reference.id
    if prompt is None:
        if name not in (known := context.registry.prompts):
            close = closest_match(name or "", known)
            raise ApiError(
                f"prompt.id: no prompt {name!r:.80} is served here" if name else "prompt: it has no id",
                f"did you mean {close}?" if close else f"prompts here: {', '.join(known) or 'none'}",
                status=404,
                code="prompt_not_found",
                param="prompt.id",
            )
        model, prompt = f"{model}:{name}", known[name]
    elif name not in (None, prompt.name):
        raise ApiError(
            f"the model {model[:80]} has one prompt, and prompt.id names {name!r:.80}",
            "name it in one of the two places",
            param="prompt.id",
        )
    if reference.version not in (None, prompt.version):
        raise ApiError(
            f"version {reference.version!r:.80} of the prompt {prompt.name} is not served here",
            f"this server has version {prompt.version}",
            status=404,
            code="prompt_not_found",
            param="prompt.version",
        )
    return {"model": model, "prompt_values": reference.values}


def refuse_prompt(context: ServingContext, model: str, what: str) -> None:
    """`ApiError` for MODEL:PROMPT where the request's form has a prompt of its own, or none."""
    if context.registry.prompt_of(model) is not None:
        base = model.rpartition(":")[0]
        raise ApiError(f"{model[:80]}: {what} take no prompt", f"name the model alone: {base}", param="model")
