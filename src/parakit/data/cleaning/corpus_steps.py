"""Steps that look at the whole corpus before they judge a document: two passes over the documents, in their order.

In the first pass the step takes in every document, in the second it gives each back. Its memory is bounded: what does not
fit goes into files of the folder that it is built with. Documents that earlier steps left out are not among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from parakit.common.files import JsonObject
from parakit.data.cleaning.steps import Removed


@runtime_checkable
class CorpusStep(Protocol):
    """`index` counts the documents from 0 and is equal in both passes; held-out documents (`validation_paths`) come
    first. Documents of files that the step excludes are in neither pass, so there may be gaps.
    """

    def add(self, index: int, text: str) -> None:
        """Pass one: take in a document."""
        ...

    def finish(self) -> None:
        """The end of pass one."""
        ...

    def apply(self, index: int, text: str) -> str | Removed:
        """Pass two: the document cleaned, equal, or left out. `text` equals that of `add` for this index."""
        ...


@runtime_checkable
class FoundInParts(CorpusStep, Protocol):
    """A step over the whole corpus whose first pass tasks can make, on several machines."""

    def load(self, folder: Path) -> None:
        """Take what the tasks found, instead of `add` and `finish`."""
        ...


@runtime_checkable
class HasFigures(Protocol):
    """A step of either kind may have figures of its own, for the report: counts, never texts. Those of parts of a
    corpus are added, as far as the documents changed them.
    """

    def figures(self) -> JsonObject:
        """Plain JSON values."""
        ...
