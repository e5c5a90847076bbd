"""What every route needs: the registry, the service that generates, the settings, and the accounts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.keys import LOCAL
from parakit.serving.config import ServeConfig
from parakit.serving.generation.service import GenerationService
from parakit.serving.models.registry import Registry


@dataclass(eq=False)
class ServingContext:
    """One server's parts."""

    registry: Registry
    config: ServeConfig
    service: GenerationService
    accounts: Accounts | None = None
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    parts: dict[str, Any] = field(default_factory=dict)
    """What single forms of the API keep for the server's time, by name."""


def serving_context(request: Request) -> ServingContext:
    """The context of the server that got this request."""
    context: ServingContext = request.app.state.serving
    return context


async def account_of(request: Request) -> Any:
    """Who sent this request; None where the server has no accounts."""
    accounts = serving_context(request).accounts
    return None if accounts is None else await accounts.authenticate(request)


def client_name(account: Any, user: str | None) -> str:
    """Whose request it is, for equal shares of a model: the key's, and without one the `user` that the request names."""
    return (user or "") if account is None or account is LOCAL else str(account.name)


def owner_of(account: Any) -> str:
    """Whose files, batches and responses these are: those of another key are not found."""
    return "" if account is None else str(getattr(account, "key_id", account))


def request_id_of(request: Request) -> str:
    """The id under which the log has this request."""
    request_id: str = request.scope.get("state", {}).get("request_id", "")
    return request_id


Context = Annotated[ServingContext, Depends(serving_context)]
Account = Annotated[Any, Depends(account_of)]
RequestId = Annotated[str, Depends(request_id_of)]
