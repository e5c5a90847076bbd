"""What must hold before the server listens: keys where others can reach it, and certificates that fit."""

from __future__ import annotations

import ssl
from pathlib import Path

from parakit.common.errors import UserError
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.security.config import SecurityConfig
from parakit.serving.security.hosts import is_loopback


def require_keys_where_exposed(host: str, config: SecurityConfig, accounts: Accounts) -> None:
    """Require a key of every request where another machine can send one: an address other than loopback, or a name that a
    proxy passes on. Raises `UserError` where no key exists.
    """
    names = [name for name in config.allowed_hosts if not is_loopback(name.lower())]
    exposed = f"{host} can be reached from other machines" if not is_loopback(host) else ""
    if not exposed and names:
        exposed = f"--allowed-hosts {names[0]} lets others in"
    if exposed:
        accounts.require_key = True
    if accounts.require_key and not accounts.has_key():
        raise UserError(
            f"{exposed or '--require-key is set'}, and there is no API key in {accounts.path}",
            "make one with `parakit keys add NAME`" + (", or serve on 127.0.0.1" if exposed else ""),
        )


def check_tls(config: SecurityConfig) -> None:
    """Raises `UserError` for files that are missing, are no PEM, or do not belong together."""
    if config.tls_cert is None and config.tls_key is None:
        return
    if config.tls_cert is None or config.tls_key is None:
        raise UserError("https needs a certificate and its key", "give both --tls-cert and --tls-key")
    for file in (config.tls_cert, config.tls_key):
        if not Path(file).is_file():
            raise UserError(f"{file}: no such file", "name a PEM file")
    try:
        # an empty password: an encrypted key is refused, and not asked for at a terminal that nobody sees
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            config.tls_cert, config.tls_key, password=""
        )
    except (ssl.SSLError, OSError, ValueError) as error:
        raise UserError(
            f"{config.tls_cert} and {config.tls_key}: not usable for https: {error}",
            "name a certificate in PEM form and its own key, without a password",
        ) from None
