"""`/metrics`: the server's counts in the text form of Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from parakit.serving.context import Account, Context

router = APIRouter(tags=["server"])


@router.get("/metrics")
async def metrics(context: Context, account: Account) -> Response:
    """Requests, tokens, times and the state of the engines."""
    return Response(generate_latest(context.metrics), media_type=CONTENT_TYPE_LATEST)
