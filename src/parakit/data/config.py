"""Settings of a corpus: what to read, what is left out, and how it is split."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from parakit.common.settings import Config
from parakit.data.cleaning.config import CleaningStep
from parakit.data.cleaning.repair_text import RepairTextConfig
from parakit.data.fetching.locations import is_on_network
from parakit.data.mixture import CurriculumStage, Mixture, TextSource


class TextConfig(Config):
    """Which files of text are read and how they become a corpus."""

    paths: tuple[str, ...] = Field(
        default=(),
        description="Files and folders to read; urls:FILE is a list of addresses, hub:OWNER/NAME a data set (see fetch).",
    )
    sources: tuple[TextSource, ...] = Field(
        default=(),
        description="Instead of paths: groups of files with weights of their own in the training tokens.",
    )
    curriculum: tuple[CurriculumStage, ...] = Field(
        default=(),
        description="Weights of the sources by stage of pre-training, for example"
        " [{until: 0.9, weights: {web: 3, books: 1}}, {until: 1, weights: {books: 1}}].",
    )
    validation_paths: tuple[str, ...] = Field(
        default=(), description="Files of the validation split; they are never trained on."
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Patterns of files to skip inside folders, such as 'drafts/*' or '*.min.js'."
    )
    include: tuple[str, ...] = Field(
        default=(),
        description="Patterns of files and folders to read although their names speak against it, such as '.github' or"
        " '*.dat'; a file of an unknown kind is then read as text.",
    )
    follow_links: bool = Field(
        default=False,
        description="Read what links inside a folder lead to even where that is outside of all `paths`.",
    )
    text_field: str = Field(
        default="text",
        description="The field (JSON, CSV) or column (Parquet, Arrow) to read, `a.b` for one inside another; where rows"
        " have no `text`, the field with the longest text on average is found and reported.",
    )
    text_template: str | None = Field(
        default=None,
        description="The text of a row as a template over its fields, such as '{title}\\n{body}'; None: text_field alone.",
    )
    encoding: str | None = Field(
        default=None,
        description="The encoding of files that are neither UTF-8 nor marked as UTF-16 or UTF-32, such as 'cp1252';"
        " None: it is recognized from their letters.",
    )
    deduplicate: bool = Field(default=True, description="Keep only one of several documents with equal text.")
    email_quotes: Literal["remove", "keep"] = Field(
        default="remove",
        description="remove: quoted replies and signatures of e-mails are left out and counted; keep: they stay.",
    )
    strip_gutenberg: bool = Field(
        default=True, description="Remove the header and licence of Project Gutenberg around a book."
    )
    cleaning: tuple[CleaningStep, ...] = Field(
        default=(RepairTextConfig(),),
        description="Steps that clean the documents, in their order: names, or settings such as"
        " {step: language, keep: [en]}; [] for none. See docs/cleaning.md.",
    )
    newlines: Literal["unix", "keep"] = Field(
        default="unix", description="unix: Windows line ends become plain ones; keep: they stay."
    )
    max_document_chars: int = Field(
        default=20_000,
        ge=1,
        description="Longer texts are split into documents, between paragraphs where possible.",
    )
    validation_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Fraction of the text in the validation split."
    )
    test_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Fraction of the text in the test split."
    )
    max_source_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Train on so much of each file at most that it is this share of the training text; None: on all.",
    )
    min_corpus_bytes: int = Field(default=1_000, ge=1, description="A smaller training split is an error.")
    max_line_bytes: int = Field(
        default=16 * 2**20,
        ge=16,
        description="Longer lines are skipped and counted, which bounds the memory.",
    )
    max_expansion: int = Field(
        default=200, ge=1, description="Compressed files that expand by more than this factor are skipped."
    )
    max_members: int = Field(
        default=100_000, ge=1, description="Files in an archive beyond this number are left out."
    )
    fetch: bool = Field(
        default=False,
        exclude=True,  # as those below: the corpus is made of what is saved
        description="Fetch what urls: and hub: paths name; without it, what was saved before is read.",
    )
    fetch_seconds: float = Field(
        default=60, gt=0, exclude=True, description="Longest time for one address of a list, in seconds."
    )
    max_fetch_bytes: int = Field(
        default=2 * 2**30, ge=1, exclude=True, description="Most bytes to fetch for one list or data set."
    )
    private_addresses: bool = Field(
        default=False,
        exclude=True,
        description="Fetch addresses of this machine and of private networks too, and use the environment's proxies.",
    )

    workers: int = Field(
        default=1,
        ge=1,
        exclude=True,  # the corpus is the same
        description="Processes that read and clean files; the corpus is the same for any number.",
    )
    executor: Literal["local", "slurm", "ray"] = Field(
        default="local",
        exclude=True,
        description="What runs the workers: local processes, a Slurm job array, or Ray on this or several machines"
        " (parakit[cluster]).",
    )
    slurm_options: tuple[str, ...] = Field(
        default=(),
        exclude=True,
        description="Options of sbatch with executor slurm, such as partition=cpu time=02:00:00 mem=4G.",
    )

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        try:
            info = value and codecs.lookup(value)
        except LookupError:
            info = None
        if value and (not info or not getattr(info, "_is_text_encoding", True)):
            raise ValueError(
                f"{value!r} is no encoding of text that Python knows, such as 'cp1252' or 'shift_jis'"
            )
        return value

    @field_validator("text_template")
    @classmethod
    def _names_a_field(cls, value: str | None) -> str | None:
        if value is not None and not re.search(r"\{[^{}]+\}", value):
            raise ValueError(f"{value!r} names no field, as in '{{title}}: {{body}}'")
        return value

    @property
    def mixture(self) -> Mixture | None:
        """How the sources are mixed; None without any."""
        return Mixture.of(self.sources, self.curriculum)

    @model_validator(mode="before")
    @classmethod
    def _paths_of_sources(cls, values: Any) -> Any:
        """The paths are those of the sources."""
        if not isinstance(values, Mapping) or not values.get("sources"):
            return values
        sources = TypeAdapter(tuple[TextSource, ...]).validate_python(values["sources"])
        paths = tuple(path for source in sources for path in source.paths)
        if values.get("paths") and tuple(values["paths"]) != paths:
            raise ValueError("give either paths or sources: the paths of the sources are all that is read")
        return {**values, "paths": paths}

    @model_validator(mode="after")
    def _has_slurm(self) -> Self:
        if self.slurm_options and self.executor != "slurm":
            raise ValueError(f"slurm_options is set, and executor is {self.executor}, not slurm")
        return self

    @model_validator(mode="after")
    def _mixes(self) -> Self:
        if self.curriculum and not self.sources:
            raise ValueError("curriculum is set, and there are no sources whose weights it could change")
        _ = self.mixture
        return self

    @model_validator(mode="after")
    def _fetches_something(self) -> Self:
        if self.fetch and not any(map(is_on_network, (*self.paths, *self.validation_paths))):
            raise ValueError("fetch is set, and no path is urls:FILE or hub:OWNER/NAME: remove it")
        for name in ("fetch_seconds", "max_fetch_bytes", "private_addresses"):
            if name in self.model_fields_set and not self.fetch:
                raise ValueError(
                    f"{name} is set, and nothing is fetched without fetch: remove it, or set fetch"
                )
        return self

    @model_validator(mode="after")
    def _leaves_training_text(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction = {self.validation_fraction} and test_fraction = {self.test_fraction} "
                "leave nothing to train on"
            )
        return self
