"""What a plan is computed for: cards from a table of their makers' figures, or the machine at hand. Imports no torch.

A card's peak is of dense matrix products; training steps reach a share of it, the utilization (PaLM, Chowdhery et al. 2022,
appendix B, reports 46 % for itself and 21 to 33 % for others; 40 % is assumed here unless it is set). The machine at hand
is measured instead (`calibration.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.settings import Config, closest_match, load_yaml
from parakit.planning.calibration import MeasuredSpeeds

TABLES = Path(__file__).parent / "tables"
UTILIZATION = 0.4  # of the peak FLOP/s, in training and in reading prompts
BANDWIDTH_SHARE = 0.6  # of the bandwidth, in writing tokens
PRECISIONS = ("float32", "tf32", "float16", "bfloat16", "fp8")


class Card(Config):
    """One accelerator: tera-operations per second by precision (dense), GB/s, GB, watts (None: not published)."""

    title: str
    float32: float | None = Field(default=None, gt=0)
    tf32: float | None = Field(default=None, gt=0)
    float16: float | None = Field(default=None, gt=0)
    bfloat16: float | None = Field(default=None, gt=0)
    fp8: float | None = Field(default=None, gt=0)
    bandwidth: float = Field(gt=0, description="GB/s")
    memory: float = Field(gt=0, description="GB")
    watts: float | None = Field(default=None, gt=0)
    source: str = "the user's file"
    date: str = ""

    def peak_flops(self) -> dict[str, float]:
        """FLOP/s by precision."""
        found = {name: getattr(self, name) for name in PRECISIONS}
        return {name: 1e12 * value for name, value in found.items() if value}


class Machine(Config):
    """Accelerators of one kind, or the machine at hand."""

    name: str
    title: str
    peak_flops: dict[str, float] = Field(description="FLOP/s of one device, by precision")
    bandwidth: float = Field(description="bytes per second of one device")
    memory_bytes: float = Field(description="of one device")
    watts: float | None = None
    n_devices: int = Field(default=1, ge=1)
    utilization: float = Field(default=UTILIZATION, gt=0, le=1)
    calibration: MeasuredSpeeds | None = Field(default=None, description="of the machine at hand")
    is_cpu: bool = Field(default=False, description="whether it computes in float32 in a process of its own")
    source: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether it is the machine at hand."""
        return self.is_cpu or self.calibration is not None

    def flops(self, precision: str) -> float:
        """FLOP/s that training steps reach on all devices. Raises `UserError` for a precision that it does not have."""
        if precision not in self.peak_flops:
            raise UserError(
                f"{self.title} has no figure for {precision}", f"one of: {', '.join(sorted(self.peak_flops))}"
            )
        return self.peak_flops[precision] * self.utilization * self.n_devices

    def default_precision(self) -> str:
        """The precision that training takes: bfloat16 or float16 where they are faster."""
        order = ("bfloat16", "float16", "float32")
        return next(name for name in order if name in self.peak_flops)


def read_cards(file: str | Path | None = None) -> dict[str, Card]:
    """The table by name, with the cards of the user's `file`, whose entries replace those of the same name."""
    cards = dict(_known_cards())
    if file is not None:
        cards |= _parse_cards(load_yaml(file), str(file))
    return cards


def find_machine(
    name: str,
    n_devices: int = 1,
    *,
    utilization: float = UTILIZATION,
    cards: Mapping[str, Card] | None = None,
) -> Machine:
    """`n_devices` cards called `name`. Raises `UserError` that names the nearest, and how to add one."""
    cards = read_cards() if cards is None else cards
    key = name.lower().replace(" ", "-").replace("_", "-").removeprefix("nvidia-").removeprefix("geforce-")
    key = _ALIASES.get(key, key)
    if key not in cards:
        close = closest_match(key, cards) or next((card for card in cards if card.startswith(key)), None)
        raise UserError(
            f"no card {name!r} in the table of {len(cards)}: {', '.join(cards)}",
            (f"did you mean {close!r}? " if close else "")
            + f"To add one, write a YAML file with `{key}: {{title: ..., bfloat16: TFLOP/s, bandwidth: GB/s, memory: GB,"
            " watts: W}` and name it with --cards",
        )
    card = cards[key]
    return Machine(
        name=key,
        title=card.title,
        peak_flops=card.peak_flops(),
        bandwidth=1e9 * card.bandwidth,
        memory_bytes=1e9 * card.memory,
        watts=card.watts,
        n_devices=n_devices,
        utilization=utilization,
        source=f"{card.source}, {card.date}".rstrip(", "),
    )


_ALIASES = {
    "a100": "a100-80gb",
    "h100-sxm": "h100",
    "h200-sxm": "h200",
    "4090": "rtx-4090",
    "3090": "rtx-3090",
}
_ALIASES |= {"5090": "rtx-5090", "rtx3090": "rtx-3090", "rtx4090": "rtx-4090", "rtx5090": "rtx-5090"}


@cache
def _known_cards() -> dict[str, Card]:
    return _parse_cards(load_yaml(TABLES / "cards.yaml"), "cards.yaml")


def _parse_cards(entries: Mapping[str, object], where: str) -> dict[str, Card]:
    cards = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise UserError(
                f"{where}: {name} is not a mapping of figures", "write title, bfloat16, bandwidth, memory"
            )
        cards[name] = Card.parse(entry, f"{where}: {name}")
        if not cards[name].peak_flops():
            raise UserError(
                f"{where}: {name} has no FLOP/s", f"add one of {', '.join(PRECISIONS)}, in TFLOP/s"
            )
    return cards
