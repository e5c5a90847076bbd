"""Personal data and secrets: replaced, or their documents left out, or counted only.

Structured kinds are found by patterns and checksums of their own, after those of presidio
(https://github.com/microsoft/presidio); names by a heuristic, and only where they are wanted, because it also takes names of
books, places and firms for people's. What is replaced becomes its kind, as [EMAIL]; the report counts kinds and shows no value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed
from parakit.data.personal.sensitive import ALL_KINDS, STRUCTURED, find_sensitive, replace


class PersonalDataConfig(StepConfig):
    """What of personal data and secrets is looked for, and what happens to it."""

    step: Literal["personal_data"] = "personal_data"
    kinds: tuple[str, ...] = Field(
        default=STRUCTURED,
        min_length=1,
        description=f"Kinds that are looked for: {', '.join(ALL_KINDS)}. Default: all but name.",
    )
    action: Literal["replace", "leave_out", "report"] = Field(
        default="replace",
        description="replace: by the kind, as [EMAIL]; leave_out: the document goes; report: only counted.",
    )
    min_found: int = Field(
        default=1, ge=1, description="With leave_out: documents with fewer stay as they are."
    )

    @model_validator(mode="after")
    def _known_kinds(self) -> Self:
        for kind in self.kinds:
            if kind not in ALL_KINDS:
                close = closest_match(kind, ALL_KINDS)
                raise UserError(
                    f"{kind!r} is no kind of personal data",
                    f"did you mean {close}?" if close else f"the kinds are {', '.join(ALL_KINDS)}",
                )
        if "min_found" in self.model_fields_set and self.action != "leave_out":
            raise UserError(
                f"`min_found` is set but has no effect: action is {self.action}", "set action to leave_out"
            )
        return self

    @property
    def masked_kinds(self) -> Collection[str]:
        return {*STRUCTURED, *self.kinds}

    def build(self, folder: Path) -> PersonalData:
        return PersonalData(self)


class PersonalData:
    """The step; counts what it finds."""

    def __init__(self, config: PersonalDataConfig) -> None:
        self._config, self._kinds = config, frozenset(config.kinds)
        self._found, self._n_documents = Counter[str](), 0

    def __call__(self, text: str) -> str | Removed:
        found = find_sensitive(text, self._kinds)
        if not found:
            return text
        self._found.update(kind for kind, _, _ in found)
        self._n_documents += 1
        if self._config.action == "replace":
            return replace(text, found)
        if self._config.action == "leave_out" and len(found) >= self._config.min_found:
            return Removed("personal data")
        return text

    def figures(self) -> JsonObject:
        return {"documents_with": self._n_documents, "found": dict(sorted(self._found.items()))}
