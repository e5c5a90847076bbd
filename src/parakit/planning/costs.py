"""Energy and money: what a run draws and costs, and what an API charges for a text. Imports no torch.

Prices are data (`tables/prices.yaml`), each with its source and date; a user's own replace them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.settings import Config, closest_match, load_yaml
from parakit.planning.machines import TABLES, Machine

# UTF-8 bytes of a token: the vocabularies of 50,000 to 200,000 tokens of public models on English prose; code and other
# languages have fewer.
BYTES_PER_TOKEN, FEWEST_BYTES, MOST_BYTES = 4.3, 3.4, 4.8
EVERY = "all"


class HourPrice(Config):
    """Of one accelerator for an hour, or of a kilowatt-hour."""

    usd: float = Field(ge=0)
    source: str = "the user's file"
    date: str = ""

    def origin(self) -> str:
        """Source and date."""
        return f"{self.source}, {self.date}".rstrip(", ")


class TokenPrice(Config):
    """Of an API: US dollars for a million tokens read and written. `cached`: of a prompt's tokens that were read from the
    provider's cache; None: as much as any input.
    """

    input: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    output: float = Field(default=0.0, ge=0)
    source: str = "the user's file"
    date: str = ""

    def origin(self) -> str:
        """Source and date."""
        return f"{self.source}, {self.date}".rstrip(", ")


class Prices(Config):
    """What a user's file may have: any of the three."""

    electricity: HourPrice | None = None
    hours: dict[str, HourPrice] = Field(default_factory=dict)
    tokens: dict[str, TokenPrice] = Field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """Of a run. None: not known."""

    device_hours: float
    kilowatt_hours: float | None
    energy_usd: float | None
    rent_usd: float | None
    price: str
    """Where the rent's price comes from."""


@cache
def known_prices() -> Prices:
    """The table of the package."""
    return Prices.parse(load_yaml(TABLES / "prices.yaml"), "prices.yaml")


def read_prices(file: str | Path) -> Prices:
    """A user's own table."""
    return Prices.parse(load_yaml(file), str(file))


def run_cost(
    machine: Machine,
    seconds: float,
    price_per_hour: float | None = None,
    price_per_kwh: float | None = None,
) -> Cost:
    """What `seconds` on all devices of `machine` cost. `price_per_hour`: of one device; None: that of the table, if any."""
    hours = machine.n_devices * seconds / 3600
    known = known_prices()
    listed = known.hours.get(machine.name)
    rent, origin = (listed.usd, listed.origin()) if listed else (None, "")
    if price_per_hour is not None:
        rent, origin = price_per_hour, "--price-per-hour"
    energy = None if machine.watts is None else hours * machine.watts / 1000
    per_kwh = price_per_kwh
    if per_kwh is None and known.electricity:
        per_kwh = known.electricity.usd
    return Cost(
        hours,
        energy,
        None if energy is None or per_kwh is None else energy * per_kwh,
        None if rent is None else rent * hours,
        origin,
    )


def hourly_price(machine: Machine, price_per_hour: float | None) -> float:
    """US dollars for an hour of all devices. Raises `UserError` where no price is known."""
    listed = known_prices().hours.get(machine.name)
    price = price_per_hour if price_per_hour is not None else listed.usd if listed else None
    if price is None or price <= 0:
        raise UserError(
            f"no price of an hour of {machine.title} is known, so money buys no amount of time",
            "give your own with --price-per-hour",
        )
    return price * machine.n_devices


def api_bill(
    name: str, n_input: float, n_output: float, prices: Prices | None = None
) -> tuple[float, TokenPrice]:
    """US dollars for reading and writing so many tokens, and the price. Raises `UserError` for an unknown name."""
    table = known_prices().tokens | (prices.tokens if prices else {})
    if name not in table:
        close = closest_match(name, table)
        raise UserError(
            f"no price list has {name!r}",
            (f"did you mean {close!r}? " if close else f"known: {', '.join(table)}. ")
            + f"For your own, write `tokens: {{{name}: {{input: USD, output: USD}}}}` (a million tokens) in a YAML file"
            " and name it with --prices",
        )
    price = table[name]
    return (n_input * price.input + n_output * price.output) / 1e6, price


@dataclass(frozen=True)
class TextTokens:
    """Tokens of a text; `low` and `high` are equal to `n` where a tokenizer counted them."""

    n_bytes: int
    n: int
    low: int
    high: int
    counted_by: str


@dataclass(frozen=True)
class Bill:
    """US dollars of one price list; `low` and `high` for the fewest and the most tokens."""

    name: str
    usd: float
    low: float
    high: float
    price: TokenPrice


def estimate_tokens(n_bytes: int) -> TextTokens:
    """Of a text of so many UTF-8 bytes, from what is usual."""
    return TextTokens(
        n_bytes,
        round(n_bytes / BYTES_PER_TOKEN),
        round(n_bytes / MOST_BYTES),
        round(n_bytes / FEWEST_BYTES),
        f"estimate: {BYTES_PER_TOKEN} bytes a token ({MOST_BYTES} to {FEWEST_BYTES})",
    )


def bills(text: TextTokens, output_share: float, names: Sequence[str], prices: Prices | None) -> list[Bill]:
    """Of reading the text once and writing `output_share` times as many tokens, by each named price list, cheapest first."""
    found = []
    for name in names:
        usd, low, high = (
            api_bill(name, n, n * output_share, prices)[0] for n in (text.n, text.low, text.high)
        )
        found.append(Bill(name, usd, low, high, api_bill(name, 0, 0, prices)[1]))
    return sorted(found, key=lambda bill: bill.usd)


def price_lists(wanted: str) -> tuple[list[str], Prices | None]:
    """The names that `--prices` stands for: all of the table, one of it, or those of a user's file."""
    if wanted == EVERY:
        return list(known_prices().tokens), None
    if Path(wanted).suffix in (".yaml", ".yml", ".json") or Path(wanted).is_file():
        own = read_prices(wanted)
        if not own.tokens:
            raise UserError(
                f"{wanted}: has no prices of tokens", "write `tokens: {NAME: {input: USD, output: USD}}`"
            )
        return list(own.tokens), own
    return [wanted], None
