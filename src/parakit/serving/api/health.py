"""`/health`: whether the server takes requests, for what watches it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from parakit.serving.context import Context

router = APIRouter(tags=["server"])


@router.get("/health")
async def health(context: Context) -> JSONResponse:
    """200 while requests are taken, 503 from SIGTERM on."""
    service = context.service
    state: dict[str, Any] = {
        "status": "shutting_down" if service.is_draining else "ok",
        "loaded_models": [one.name for one in context.registry.loaded],
        "running": len(service.running),
    }
    return JSONResponse(state, 503 if service.is_draining else 200)
