"""`/tokenize` and `/detokenize`: how a model's tokenizer splits a text or a conversation, and back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from parakit.inference.generation.completion import prompt_ids
from parakit.serving.api.completions import PromptText, TokenIds
from parakit.serving.api.errors import ApiError
from parakit.serving.api.messages import MAX_MESSAGES, ChatMessage, template_messages
from parakit.serving.api.sampling import ApiModel, ModelName
from parakit.serving.context import Account, Context
from parakit.serving.generation.call import GenerationCall
from parakit.serving.models.served_model import ServedModel

router = APIRouter(tags=["tokens"])


class TokenizeRequest(ApiModel):
    """A text, or the messages of a conversation as the chat template writes them."""

    model: ModelName
    prompt: PromptText | None = None
    messages: Annotated[list[ChatMessage], Field(max_length=MAX_MESSAGES)] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False


class DetokenizeRequest(ApiModel):
    """Token ids."""

    model: ModelName
    tokens: TokenIds


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, context: Context, account: Account) -> dict[str, Any]:
    """The token ids of a text, or of a conversation with the assistant's turn opened."""
    if (body.prompt is None) == (body.messages is None):
        raise ApiError("a request has either a prompt or messages", "set one of the two", param="prompt")

    messages = None if body.messages is None else template_messages(body.messages)
    call = await context.service.filled(
        GenerationCall(model=body.model, messages=messages, prompt=body.prompt)
    )

    def encode(served: ServedModel) -> list[int]:
        if call.messages is not None:
            return prompt_ids(served.tokenizer, call.messages)
        text = body.prompt or ""
        return (
            prompt_ids(served.tokenizer, text) if body.add_special_tokens else served.tokenizer.encode(text)
        )

    async with context.registry.open(body.model) as use:
        token_ids = await context.service.in_thread(encode, use.served)
        tokenizer = use.served.tokenizer
        strings = [tokenizer.decode([i]) for i in token_ids] if body.return_token_strs else None
        return {
            "count": len(token_ids),
            "max_model_len": use.served.max_seq_len,
            "tokens": token_ids,
            "token_strs": strings,
        }


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, context: Context, account: Account) -> dict[str, str]:
    """The text of token ids."""
    async with context.registry.open(body.model) as use:
        tokenizer = use.served.tokenizer
        if outside := [i for i in body.tokens if i >= tokenizer.vocab_size][:1]:
            raise ApiError(
                f"token id {outside[0]}, and the tokenizer has {tokenizer.vocab_size} ids", param="tokens"
            )
        return {"prompt": await context.service.in_thread(tokenizer.decode, body.tokens)}
