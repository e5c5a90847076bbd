"""Cards, prices and bills: data with sources and dates, and clear errors for what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.planning.costs import (
    api_bill,
    bills,
    estimate_tokens,
    hourly_price,
    known_prices,
    price_lists,
    run_cost,
)
from parakit.planning.machines import find_machine, read_cards


def test_every_figure_has_a_source_and_a_date() -> None:
    cards = read_cards()
    assert len(cards) >= 20
    for name, card in cards.items():
        assert card.source, name
        assert card.date[:2] == "20", name
    prices = known_prices()
    assert prices.electricity is not None
    for entry in (prices.electricity, *prices.hours.values(), *prices.tokens.values()):
        assert entry.source
        assert entry.date[:2] == "20"
    assert set(prices.hours) <= set(cards)


def test_half_precision_is_never_slower_and_memory_never_faster_than_products() -> None:
    """Ratios that hold for every card, against slips in the table: bytes a second and operations, 16 bits and 32."""
    for name, card in read_cards().items():
        peaks = card.peak_flops()
        half = peaks.get("bfloat16") or peaks.get("float16")
        if half and "float32" in peaks:
            assert 1 < half / peaks["float32"] < 25, name
        assert 10 < max(peaks.values()) / (1e9 * card.bandwidth) < 1000, name
        if "fp8" in peaks and half:
            assert peaks["fp8"] / half == pytest.approx(2, rel=0.03), name  # L40S: rounded, 733 and 362


def test_a_card_is_found_by_what_people_write() -> None:
    for written, name in (
        ("H100", "h100"),
        ("NVIDIA A100", "a100-80gb"),
        ("RTX 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
    ):
        assert find_machine(written).name == name
    two = find_machine("h100", 2, utilization=0.5)
    assert two.flops("bfloat16") == pytest.approx(989.4e12)


def test_a_card_that_is_not_there_and_how_to_add_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no card 'h10'") as caught:
        find_machine("h10")
    assert "'h100'" in caught.value.hint
    assert "--cards" in caught.value.hint
    file = tmp_path / "cards.yaml"
    file.write_text("mine: {title: Mine, bfloat16: 10, bandwidth: 100, memory: 8}\n")
    machine = find_machine("mine", cards=read_cards(file))
    assert (machine.memory_bytes, machine.watts) == (8e9, None)
    file.write_text("mine: {title: Mine, bandwidth: 100, memory: 8}\n")
    with pytest.raises(UserError, match="no FLOP/s"):
        read_cards(file)
    file.write_text("mine: {title: Mine, bfloat16: 10, bandwith: 100, memory: 8}\n")
    with pytest.raises(UserError, match="bandwith") as caught:
        read_cards(file)
    assert "bandwidth" in str(caught.value)


def test_a_precision_that_a_card_does_not_have() -> None:
    with pytest.raises(UserError, match="bfloat16") as caught:
        find_machine("t4").flops("bfloat16")
    assert "float16" in caught.value.hint
    assert find_machine("t4").default_precision() == "float16"


def test_energy_and_money_of_an_hour() -> None:
    eight = find_machine("h100", 8)
    cost = run_cost(eight, 3600, price_per_kwh=0.1)
    assert (cost.device_hours, cost.kilowatt_hours) == (8, pytest.approx(5.6))
    assert cost.energy_usd == pytest.approx(0.56)
    assert cost.rent_usd == pytest.approx(8 * 2.99)
    assert "2024" in cost.price
    own = run_cost(eight, 1800, price_per_hour=2.0)
    assert (own.rent_usd, own.price) == (8.0, "--price-per-hour")
    assert hourly_price(eight, None) == pytest.approx(8 * 2.99)
    with pytest.raises(UserError, match="--price-per-hour"):
        hourly_price(find_machine("m2"), None)


def test_a_bill_is_tokens_times_price(tmp_path: Path) -> None:
    usd, price = api_bill("gpt-4o", 2e6, 1e6)
    assert usd == 2 * price.input + price.output == 15.0
    text = estimate_tokens(4_300_000)
    assert text.low < text.n == 1_000_000 < text.high
    names, own = price_lists("all")
    found = bills(text, 0.0, names, own)
    assert [bill.usd for bill in found] == sorted(bill.usd for bill in found)
    assert all(bill.low <= bill.usd <= bill.high for bill in found)
    file = tmp_path / "mine.yaml"
    file.write_text("tokens: {mine: {input: 1, output: 2}}\n")
    (mine,) = bills(text, 1.0, *price_lists(str(file)))
    assert mine.usd == pytest.approx(3.0)
    with pytest.raises(UserError, match="gpt-5-minni") as caught:
        bills(text, 0.0, *price_lists("gpt-5-minni"))
    assert "gpt-5-mini" in caught.value.hint
    assert "--prices" in caught.value.hint
