"""Settings of keys, prices and the ledger."""

from typing import Literal

from pydantic import Field

from parakit.common.settings import Config

OnLedgerFailure = Literal["stop", "warn"]


class AccountsConfig(Config):
    """Where keys and requests are stored, what tokens cost, and what happens when nothing can be written."""

    accounts: str | None = Field(
        default=None,
        description="The file of keys and requests. Default: PARAKIT_ACCOUNTS, or the user's data folder.",
    )
    prices: str | None = Field(
        default=None,
        description="A YAML file of prices by model, or the name of a published price list (gpt-4o-mini) for every model."
        " Default: tokens cost nothing.",
    )
    on_ledger_failure: OnLedgerFailure = Field(
        default="stop",
        description="When the ledger cannot be written, as on a full disk: stop answers 503 until it can, warn serves on,"
        " holds the rows in memory and logs them.",
    )
    require_key: bool = Field(
        default=False,
        description="Refuse requests without a key from this machine, too. Set where a proxy on this machine passes on"
        " the requests of others; set by itself for other addresses than loopback and for --allowed-hosts.",
    )
