"""`/v1/files` and `/v1/batches`: requests from a file, answered in the background, in OpenAI's form."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from pydantic import Field

from parakit.common.files import JsonObject
from parakit.serving.accounts.keys import LOCAL, list_keys
from parakit.serving.api.errors import ApiError
from parakit.serving.api.sampling import ApiModel, ShortText
from parakit.serving.batches.lines import ENDPOINTS
from parakit.serving.batches.service import BatchService
from parakit.serving.context import Account, Context, ServingContext, owner_of

router = APIRouter(tags=["batches"])
PageSize = Annotated[int, Query(ge=1, le=10_000)]
After = Annotated[str | None, Query(max_length=100)]


class BatchRequest(ApiModel):
    """The body of a request for a batch."""

    input_file_id: ShortText
    endpoint: ShortText
    completion_window: Literal["24h"] = "24h"
    metadata: Annotated[dict[ShortText, ShortText], Field(max_length=16)] | None = None
    output_expires_after: Any = None


def batches_of(context: ServingContext) -> BatchService:
    """The batches of a server."""
    service = context.parts["batches"]
    assert isinstance(service, BatchService)
    return service


def account_by_owner(context: ServingContext, owner: str) -> Any:
    """The account of a stored batch. `ApiError` where its key is revoked."""
    accounts = context.accounts
    if accounts is None or owner in ("", str(LOCAL.key_id)):
        return None if accounts is None else LOCAL
    for key in list_keys(accounts.connection):
        if str(key.account.key_id) == owner and key.revoked_at is None:
            return key.account
    raise ApiError("the key that made this batch is revoked", "make the batch with another key")


# --- files
@router.post("/v1/files")
async def upload_file(
    context: Context,
    account: Account,
    file: Annotated[UploadFile, File()],
    purpose: Annotated[Literal["batch"], Form()],
) -> JSONResponse:
    """Keep a file with the requests of a batch."""
    content = await file.read()
    name = (file.filename or "file.jsonl")[:200]
    kept = await asyncio.to_thread(batches_of(context).files.put, owner_of(account), name, purpose, content)
    return JSONResponse(kept)


@router.get("/v1/files")
async def list_files(
    context: Context, account: Account, limit: PageSize = 100, after: After = None, purpose: After = None
) -> JSONResponse:
    """The account's files, newest first."""
    found = batches_of(context).files.all(owner_of(account))
    return _page([one for one in found if purpose in (None, one["purpose"])], limit, after)


@router.get("/v1/files/{file_id}")
async def get_file(file_id: str, context: Context, account: Account) -> JSONResponse:
    """The description of a file."""
    return JSONResponse(_file(context, account, file_id))


@router.get("/v1/files/{file_id}/content")
async def get_file_content(file_id: str, context: Context, account: Account) -> FileResponse:
    """The lines of a file."""
    _file(context, account, file_id)
    return FileResponse(batches_of(context).files.path(file_id), media_type="application/jsonl")


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, context: Context, account: Account) -> JSONResponse:
    """Forget a file."""
    _file(context, account, file_id)
    running = [one for one in batches_of(context).all(owner_of(account)) if one["status"] == "in_progress"]
    if any(one["input_file_id"] == file_id for one in running):
        raise ApiError("a batch reads this file", "cancel the batch first", status=409)
    batches_of(context).files.delete(file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _file(context: ServingContext, account: Any, file_id: str) -> JsonObject:
    found = batches_of(context).files.get(owner_of(account), file_id)
    if found is None:
        raise ApiError(f"no file {file_id[:80]!r}", "GET /v1/files lists yours", status=404, param="file_id")
    return found


# --- batches
@router.post("/v1/batches")
async def create_batch(body: BatchRequest, context: Context, account: Account) -> JSONResponse:
    """Start a batch."""
    if body.endpoint not in ENDPOINTS:
        raise ApiError(
            f"endpoint {body.endpoint[:80]!r} is not one of a batch",
            f"one of {', '.join(ENDPOINTS)}",
            param="endpoint",
        )
    _file(context, account, body.input_file_id)
    batch = batches_of(context).create(
        owner_of(account), account, body.input_file_id, body.endpoint, body.metadata
    )
    return JSONResponse(batch)


@router.get("/v1/batches")
async def list_batches(
    context: Context, account: Account, limit: PageSize = 20, after: After = None
) -> JSONResponse:
    """The account's batches, newest first."""
    return _page(batches_of(context).all(owner_of(account)), limit, after)


@router.get("/v1/batches/{batch_id}")
async def get_batch(batch_id: str, context: Context, account: Account) -> JSONResponse:
    """A batch as it is now."""
    return JSONResponse(_batch(context, account, batch_id))


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: str, context: Context, account: Account) -> JSONResponse:
    """Begin no further request of a batch."""
    batch = _batch(context, account, batch_id)
    return JSONResponse(batches_of(context).cancel(owner_of(account), batch))


def _batch(context: ServingContext, account: Any, batch_id: str) -> JsonObject:
    found = batches_of(context).get(owner_of(account), batch_id)
    if found is None:
        raise ApiError(
            f"no batch {batch_id[:80]!r}", "GET /v1/batches lists yours", status=404, param="batch_id"
        )
    return found


def _page(found: list[JsonObject], limit: int, after: str | None) -> JSONResponse:
    """A list in OpenAI's form: what comes after an id."""
    ids = [one["id"] for one in found]
    start = ids.index(after) + 1 if after in ids else 0
    page = found[start : start + limit]
    listed = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(found),
    }
    return JSONResponse(listed)
