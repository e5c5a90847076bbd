"""The settings of a cleaning step, which build a function of one text or a step over the whole corpus."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from pydantic import Field

from parakit.common.settings import Config
from parakit.data.cleaning.corpus_steps import CorpusStep
from parakit.data.cleaning.steps import TextStep
from parakit.data.personal.sensitive import STRUCTURED


class StepConfig(Config):
    """Settings of one step. A subclass has a field `step`, a `Literal` of its name with that name as the default, and a
    default for every other field, so that the name alone is enough on the command line.
    """

    step: str
    exclude: tuple[str, ...] = Field(
        default=(),
        description="Patterns of files, such as '*.py' or 'legal/*', that the step leaves as they are.",
    )

    @property
    def masked_kinds(self) -> Collection[str]:
        """Kinds of personal data that samples of the step do not show."""
        return STRUCTURED

    @abstractmethod
    def build(self, folder: Path) -> TextStep | CorpusStep:
        """The step. A step over the whole corpus may write temporary files into `folder`, which is deleted afterwards.
        `UserError` for a missing library or file.
        """
        ...

    def applies_to(self, file: str) -> bool:
        """Whether documents of `file` go through the step. A pattern is compared with the path, its ends and its name."""
        if not self.exclude:
            return True
        path = PurePosixPath(file.replace("\\", "/"))
        return not any(
            fnmatchcase(str(path), pattern)
            or fnmatchcase(path.name, pattern)
            or fnmatchcase(str(path), f"*/{pattern}")
            for pattern in self.exclude
        )
