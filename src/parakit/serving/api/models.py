"""`/v1/models`: which models, adapters and prompts a request may name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from parakit.serving.context import Account, Context, ServingContext

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(context: Context, account: Account) -> dict[str, Any]:
    """All models."""
    return {"object": "list", "data": [_describe(context, name) for name in context.registry.names]}


@router.get("/v1/models/{model}")
async def get_model(model: str, context: Context, account: Account) -> dict[str, Any]:
    """One model."""
    context.registry.resolve(model)
    return _describe(context, model)


def _describe(context: ServingContext, name: str) -> dict[str, Any]:
    location, adapter = context.registry.resolve(name)
    folder = location.path if adapter is None else location.adapters[adapter]
    loaded = {one.name for one in context.registry.loaded}
    prompt = context.registry.prompt_of(name)
    described = {
        "id": name,
        "object": "model",
        "created": int(folder.stat().st_mtime) if folder.exists() else 0,
        "owned_by": "parakit",
        "parent": None if name == location.name else name.rpartition(":")[0],
        "loaded": location.name in loaded,
    }
    if prompt is None:
        return described
    keys = ("name", "version", "kind", "summary", "digest", "fields", "required")
    return described | {"prompt": {key: getattr(prompt, key) for key in keys}}
