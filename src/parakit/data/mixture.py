"""A mixture of sources: which part of the training tokens each is to be, and how that changes over a run.

Weights are proportions of tokens; without any, each source is as large as its text. A curriculum gives other weights from
some part of the run on, for example the best data in the last tenth (as in MiniCPM, Hu et al. 2024). A source repeats
where its part is larger than its text, `max_repeats` times at most: four passes over the same text are about as good as
new text, sixteen are not (Muennighoff et al. 2023).
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from parakit.common.settings import Config

MAX_SOURCES = 255


class TextSource(Config):
    """A part of the text with a weight of its own."""

    name: str | None = Field(
        default=None, description="Its name in reports. Default: the last part of its first path."
    )
    paths: tuple[str, ...] = Field(min_length=1, description="Its files and folders.")
    weight: float | None = Field(
        default=None,
        ge=0,
        description="Its proportion of the training tokens: 3 and 1 mean three to one. For all sources or for none;"
        " None: by the size of its text.",
    )
    max_repeats: float | None = Field(
        default=None,
        gt=0,
        description="How often a run reads its text at most; what is over goes to the others.",
    )
    max_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Train on so much of its text at most; which documents is drawn at random.",
    )

    @property
    def title(self) -> str:
        """Its name, or the last part of its first path."""
        return self.name or self.paths[0].rstrip("/\\").replace("\\", "/").rpartition("/")[2] or self.paths[0]


class CurriculumStage(Config):
    """Weights of the sources up to a point of the run."""

    until: float = Field(gt=0, le=1, description="The part of the run at which it ends; 1 for the last.")
    weights: dict[str, float] = Field(
        min_length=1, description="Weight of each source by name; one that is not named has weight 0."
    )


class Mixture(Config):
    """The sources of a corpus as a run reads them."""

    names: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    max_repeats: tuple[float | None, ...] = ()
    curriculum: tuple[CurriculumStage, ...] = ()

    @classmethod
    def of(cls, sources: tuple[TextSource, ...], curriculum: tuple[CurriculumStage, ...]) -> Mixture | None:
        """The mixture of these sources; None where there are none."""
        if not sources:
            return None
        weights = [source.weight for source in sources]
        return cls(
            names=tuple(source.title for source in sources),
            weights=tuple(w for w in weights if w is not None) or None,
            max_repeats=tuple(source.max_repeats for source in sources),
            curriculum=curriculum,
        )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"two sources are called {twice!r}: give each a name of its own")
        if len(self.names) > MAX_SOURCES:
            raise ValueError(f"{len(self.names)} sources are over the limit of {MAX_SOURCES}: join some")
        if self.weights is not None:
            if len(self.weights) != len(self.names):
                raise ValueError(
                    "some sources have a weight and some have none: give one to each, or to none"
                )
            if not sum(self.weights):
                raise ValueError("all weights are 0, so nothing would be read")
        ends = [stage.until for stage in self.curriculum]
        if ends and (ends != sorted(set(ends)) or ends[-1] != 1):
            raise ValueError(
                f"curriculum: the stages end at {ends}; each must end after the one before, the last at 1"
            )
        for stage in self.curriculum:
            if unknown := set(stage.weights) - set(self.names):
                raise ValueError(
                    f"curriculum: no source is called {sorted(unknown)[0]!r}; they are {', '.join(self.names)}"
                )
            if min(stage.weights.values()) < 0 or not sum(stage.weights.values()):
                raise ValueError(f"curriculum: the weights until {stage.until:g} are negative, or all 0")
        return self

    def stages(self, sizes: tuple[float, ...]) -> list[tuple[float, tuple[float, ...]]]:
        """Per stage: where it ends, as a part of the run, and the share of each source. `sizes`: of each source's text."""
        if not self.curriculum:
            return [(1.0, _shares(self.weights or sizes))]
        return [
            (stage.until, _shares(tuple(stage.weights.get(name, 0.0) for name in self.names)))
            for stage in self.curriculum
        ]


def _shares(weights: tuple[float, ...]) -> tuple[float, ...]:
    total = sum(weights)
    return tuple(weight / total for weight in weights)
