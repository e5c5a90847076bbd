"""What one step did: documents changed and left out, characters taken away, reasons, and ten samples.

The samples are those of the smallest digests, so they do not depend on the order of the documents. Personal data in them
is masked.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from parakit.common.files import JsonObject
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed
from parakit.data.personal.sensitive import STRUCTURED, mask

N_SAMPLES = 10
MASKED_CHARS = 200  # around an excerpt that are masked with it, so that its ends cut no secret in two
BEFORE_CHARS, SHOWN_CHARS = 60, 240  # of an excerpt: before the first change, and in all


@dataclass
class StepReport:
    """Counts of one step; reports of parts of a corpus can be merged in any order."""

    masked: Collection[str] = STRUCTURED  # kinds of personal data that the samples do not show
    n_changed: int = 0
    n_left_out: int = 0
    chars_removed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    figures: JsonObject = field(default_factory=dict)
    _samples: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def count(self, source: str, before: str, after: str | Removed) -> None:
        """A document of `source` was changed or left out; `chars_removed` counts those of all documents left out, and by
        how many others became shorter.
        """
        if isinstance(after, Removed):
            self.n_left_out += 1
            self.chars_removed += len(before)
            self.reasons[after.reason] += 1
        else:
            self.n_changed += 1
            self.chars_removed += max(0, len(before) - len(after))
        digest = hashlib.sha256(before.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if len(self._samples) < N_SAMPLES or (digest, source) < self._samples[-1][:2]:
            self._add((digest, source, {"source": source} | _excerpts(before, after, self.masked)))

    def merge(self, other: StepReport, initial: JsonObject) -> None:
        """Add what the step did to other documents. `initial`: the step's figures before it saw any."""
        self.n_changed += other.n_changed
        self.n_left_out += other.n_left_out
        self.chars_removed += other.chars_removed
        self.reasons += other.reasons
        self.figures = _sum(self.figures or initial, other.figures, initial)
        for sample in other._samples:
            self._add(sample)

    def to_json(self) -> JsonObject:
        """All that `from_json` needs, in plain values."""
        return vars(self) | {"masked": list(self.masked)}

    @classmethod
    def from_json(cls, values: JsonObject) -> StepReport:
        """The report that `to_json` described."""
        reasons: Counter[str] = Counter(values["reasons"])
        samples = [tuple(sample) for sample in values["_samples"]]
        return cls(**values | {"reasons": reasons, "_samples": samples})

    def _add(self, sample: tuple[str, str, dict[str, Any]]) -> None:
        insort(self._samples, sample, key=lambda one: one[:2])
        del self._samples[N_SAMPLES:]

    def to_dict(self, config: StepConfig) -> JsonObject:
        """The step's entry in the corpus's report."""
        values: JsonObject = {
            "step": config.step,
            "parameters": config.model_dump(mode="json", exclude={"step"}),
            "n_changed": self.n_changed,
            "n_left_out": self.n_left_out,
            "chars_removed": self.chars_removed,
            "reasons": dict(sorted(self.reasons.items())),
            "samples": [sample for _, _, sample in self._samples],
        }
        return values | ({"figures": self.figures} if self.figures else {})


def _sum(total: Any, part: Any, initial: Any) -> Any:
    """Figures of a step over parts of a corpus: what each part adds to the initial numbers and lists; words stay."""
    if isinstance(part, dict):
        known = initial if isinstance(initial, dict) else {}
        sums = dict(total) if isinstance(total, dict) else {}
        for name, value in part.items():
            sums[name] = _sum(sums.get(name), value, known.get(name))
        return sums
    if isinstance(part, str) or total is None:
        return part
    return total + part[len(initial or ()) :] if isinstance(part, list) else total + part - (initial or 0)


def _excerpts(before: str, after: str | Removed, masked: Collection[str]) -> JsonObject:
    """The text around the first change; of a document left out its beginning, and why."""
    if isinstance(after, Removed):
        return {"before": _excerpt(before, 0, masked), "after": None, "reason": after.reason}
    start = max(0, _common_prefix(before, after) - BEFORE_CHARS)
    return {"before": _excerpt(before, start, masked), "after": _excerpt(after, start, masked)}


def _common_prefix(one: str, other: str) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _excerpt(text: str, start: int, kinds: Collection[str]) -> str:
    """The excerpt, masked with its surroundings."""
    low = max(0, start - MASKED_CHARS)
    shown = mask(text[low : start + SHOWN_CHARS + MASKED_CHARS], kinds)
    begin = len(mask(text[low:start], kinds)) if low < start else 0
    return shown[begin : begin + SHOWN_CHARS]
