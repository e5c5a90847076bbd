"""Settings of what the server accepts: names, origins, certificates, and the bounds of a request."""

from typing import Annotated

from pydantic import Field

from parakit.common.settings import Config

HostName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._-]+$")]
OriginName = Annotated[str, Field(max_length=300, pattern=r"^https?://[A-Za-z0-9._:\[\]-]+$")]


class SecurityConfig(Config):
    """Which requests are read at all, and how slow they may be."""

    allowed_hosts: tuple[HostName, ...] = Field(
        default=(),
        description="Names under which clients reach the server, such as that of a proxy (llm.example.com). Addresses of"
        " this machine need no entry.",
    )
    allowed_origins: tuple[OriginName, ...] = Field(
        default=(),
        description="Web pages of other origins that may send requests, as https://app.example.com.",
    )
    tls_cert: str | None = Field(
        default=None, description="A PEM file with the certificate and its chain, for https."
    )
    tls_key: str | None = Field(default=None, description="The PEM file of the certificate's private key.")
    max_body_bytes: int = Field(
        default=8 * 2**20, ge=1024, le=2**32, description="Bytes of a request's body; a larger one gets 413."
    )
    header_seconds: float = Field(
        default=10.0,
        gt=0.0,
        le=3600.0,
        description="A connection that has not sent the head of a request within so long is closed.",
    )
    body_seconds: float = Field(
        default=30.0, gt=0.0, le=86_400.0, description="A body that is not here within so long gets 408."
    )
    slow_seconds: float = Field(
        default=30.0,
        gt=0.0,
        le=86_400.0,
        description="A client that reads less than 512 bytes a second for so long is disconnected.",
    )
    max_connections: int = Field(
        default=2000,
        ge=1,
        le=1_000_000,
        description="Open connections; beyond, those that wait longest without a request are closed.",
    )
