"""`/v1/embeddings`: vectors of texts, from embedders, encoders and, by pooling, decoders.

A text is one that the model reads as it is: over the model's limit it is refused, or cut with `"truncation": "auto"`. Token ids
are taken where they are what the model's own tokenizer makes of a text.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from parakit.common.errors import UserError
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.embeddings import EmbeddedTexts, embed_texts, vector_width
from parakit.model.config import EmbedderPooling
from parakit.serving.api.errors import ApiError
from parakit.serving.api.prompts import refuse_prompt
from parakit.serving.api.sampling import ApiModel, ModelName, ShortText
from parakit.serving.context import Account, Context, RequestId
from parakit.serving.generation.call import GenerationCall, Usage
from parakit.serving.models.served_model import ServedModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_INPUTS = 2048
MAX_CHARS = 10_000_000
router = APIRouter(tags=["generate"])
InputText = Annotated[str, Field(max_length=MAX_CHARS)]
InputIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MAX_CHARS)]


class EmbeddingsRequest(ApiModel):
    """The body of a request for vectors."""

    model: ModelName
    input: (
        InputText
        | Annotated[list[InputText], Field(min_length=1, max_length=MAX_INPUTS)]
        | InputIds
        | Annotated[list[InputIds], Field(min_length=1, max_length=MAX_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, le=1_000_000)
    user: ShortText | None = None
    pooling: EmbedderPooling | None = None
    prompt_name: ShortText | None = None
    truncation: Literal["auto", "disabled"] | None = None


@router.post("/v1/embeddings")
async def create_embeddings(
    body: EmbeddingsRequest, context: Context, account: Account, request_id: RequestId
) -> JSONResponse:
    """The vector of each text."""
    refuse_prompt(context, body.model, "vectors")
    call = GenerationCall(
        model=body.model, prompt="", account=account, client=body.user or "", request_id=request_id
    )
    async with context.service.work(call) as work:
        if work.use.adapter is not None:
            raise ApiError(
                f"{body.model}: adapters are not used for vectors", "name the model alone", param="model"
            )
        vectors, n_tokens = await context.service.in_thread(_embed, work.use.served, body)
        work.usage = Usage(prompt_tokens=sum(n_tokens))
    data = [
        {"object": "embedding", "index": i, "embedding": _encoded(vector, body.encoding_format)}
        for i, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": work.usage.prompt_tokens, "total_tokens": work.usage.prompt_tokens}
    return JSONResponse({"object": "list", "data": data, "model": body.model, "usage": used})


def _embed(served: ServedModel, body: EmbeddingsRequest) -> EmbeddedTexts:
    network: Any = served.model.network
    require_capability(network, "embed")
    width = vector_width(network, body.pooling)
    if body.dimensions is not None and body.dimensions > width:
        raise ApiError(
            f"dimensions = {body.dimensions}, and the model's vectors have {width}",
            "set fewer, or leave it out",
            param="dimensions",
        )
    texts = _texts(body.input, served.tokenizer)
    try:
        with served.exclusive():
            found = embed_texts(
                network,
                served.tokenizer,
                texts,
                pooling=body.pooling,
                prompt_name=body.prompt_name,
                too_long="truncate" if body.truncation == "auto" else "refuse",
            )
    except UserError as error:
        if "context window" not in error.message:
            raise
        hint = 'shorten it, or have it cut: "truncation": "auto"'
        raise ApiError(error.message, hint, code="context_length_exceeded", param="input") from None
    if body.dimensions is None:
        return found
    return EmbeddedTexts(_shortened(found.vectors, body.dimensions), found.n_tokens)


def _texts(given: str | Sequence[Any], tokenizer: Tokenizer) -> list[str]:
    """The texts of an input of any form."""
    if isinstance(given, str):
        rows: Sequence[Any] = [given]
    else:
        rows = [given] if isinstance(given[0], int) else given
    texts = []
    for number, row in enumerate(rows):
        text = row if isinstance(row, str) else _decoded(row, tokenizer, number)
        if not text:
            raise ApiError(f"input.{number}: is an empty text", "leave it out", param="input")
        texts.append(text)
    return texts


def _decoded(token_ids: Sequence[int], tokenizer: Tokenizer, number: int) -> str:
    """The text of token ids, which must be what the model's tokenizer makes of it."""
    if max(token_ids) < tokenizer.vocab_size:
        text = tokenizer.decode(token_ids)
        if list(tokenizer.encode(text)) == list(token_ids):
            return text
    raise ApiError(
        f"input.{number}: these token ids are not what the model's tokenizer makes of a text",
        "send the text; a client that tokenizes by itself uses another model's tokenizer",
        param="input",
    )


def _shortened(vectors: np.ndarray, n_dimensions: int) -> np.ndarray:
    """The first dimensions; of vectors of length 1, at length 1 again."""
    short = vectors[:, :n_dimensions]
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4):
        return short
    return short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12)


def _encoded(vector: np.ndarray, encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
