"""What served tokens cost: a price for each model, per million input, cached and output tokens, with its date.

The format is that of `planning/tables/prices.yaml`. Models without a price cost nothing: they run on the owner's machine.
A request is charged by the price at its start, in whole nano-dollars, so that sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

from parakit.planning.costs import EVERY, TokenPrice, api_bill, price_lists

ANY_MODEL = "*"
NANO = 10**9


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens, as exact decimals, and where the price comes from."""

    input: Decimal = Decimal(0)
    cached: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    date: str = ""

    @classmethod
    def of(cls, listed: TokenPrice) -> Price:
        """Without a price of its own, a cached token costs as much as any input."""
        cached = listed.input if listed.cached is None else listed.cached
        return cls.parse(str(listed.input), str(cached), str(listed.output), listed.date)

    @classmethod
    def parse(cls, input: str, cached: str, output: str, date: str) -> Price:
        """From decimals as text, as the ledger has them."""
        return cls(Decimal(input), Decimal(cached), Decimal(output), date)

    def nano_usd(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
        """The charge, rounded once (half to even). `cached_tokens` is a part of `prompt_tokens`."""
        micro = (
            (prompt_tokens - cached_tokens) * self.input
            + cached_tokens * self.cached
            + completion_tokens * self.output
        )
        return int((micro * 1000).to_integral_value(ROUND_HALF_EVEN))


FREE = Price()


class PriceTable:
    """Prices by model. An adapter's `model:adapter` falls back to its base, and every model to `*`."""

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self.prices = dict(prices or {})

    def find(self, model: str) -> Price:
        """The price of a served model; free where none is set."""
        for name in (model, model.partition(":")[0], ANY_MODEL):
            if name in self.prices:
                return self.prices[name]
        return FREE


def load_price_table(wanted: str | None) -> PriceTable:
    """A user's file, with `*` for all models that it does not name; or the name of a price list of the package
    (`gpt-4o-mini`), which then holds for every model; None: all free. Raises `UserError` for an unknown name.
    """
    if wanted is None:
        return PriceTable()
    names, own = price_lists(wanted)
    if own is None and not Path(wanted).is_file():
        _, listed = api_bill(wanted if wanted != EVERY else "", 0, 0)
        return PriceTable({ANY_MODEL: Price.of(listed)})
    return PriceTable({name: Price.of(api_bill(name, 0, 0, own)[1]) for name in names})
