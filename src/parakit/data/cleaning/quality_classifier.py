"""Documents like the user's good examples, and unlike the bad ones, by a linear classifier that is trained on both.

The features are hashed words and pairs of words (Weinberger et al. 2009), as in the filters of GPT-3 (Brown et al. 2020,
appendix A) and fastText; the weights those of a logistic regression (`linear_classifier`). The threshold is chosen on a fifth
of the examples that is not trained on, and the report has the accuracy there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.cleaning.linear_classifier import LinearClassifier, train
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed

MIN_EXAMPLES = 20  # of each kind


class QualityClassifierConfig(StepConfig):
    """Examples to train on, or a classifier that is trained already."""

    step: Literal["quality_classifier"] = "quality_classifier"
    good: tuple[str, ...] = Field(
        default=(),
        description="Files or folders of good examples: text, a document a file, or JSON lines with a field text.",
    )
    bad: tuple[str, ...] = Field(default=(), description="Files or folders of bad examples.")
    model: str | None = Field(default=None, description="A folder that `save_to` wrote, instead of examples.")
    save_to: str | None = Field(default=None, description="Where to write the trained classifier.")
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The least probability of a good document; None: chosen on held-out examples.",
    )

    @model_validator(mode="after")
    def _has_examples(self) -> Self:
        if bool(self.model) == bool(self.good or self.bad) or (
            not self.model and not (self.good and self.bad)
        ):
            raise UserError(
                "quality_classifier needs either examples of both kinds, or a trained model",
                "give good and bad, or model",
            )
        if self.model and self.save_to:
            raise UserError(
                "`save_to` is set but has no effect: model is trained already", "remove one of them"
            )
        return self

    def build(self, folder: Path) -> QualityStep:
        if self.model:
            return QualityStep(LinearClassifier.load(Path(self.model)), self.threshold)
        good, bad = ([*_examples(paths)] for paths in (self.good, self.bad))
        for name, texts in (("good", good), ("bad", bad)):
            if len(texts) < MIN_EXAMPLES:
                raise UserError(
                    f"quality_classifier: {len(texts)} {name} examples, and {MIN_EXAMPLES} are the least",
                    "give more examples",
                )
        classifier = train(good, bad)
        if self.save_to:
            classifier.save(Path(self.save_to))
        return QualityStep(classifier, self.threshold)


class QualityStep:
    """The step."""

    def __init__(self, classifier: LinearClassifier, threshold: float | None) -> None:
        self._classifier = classifier
        self._threshold = classifier.threshold if threshold is None else threshold

    def __call__(self, text: str) -> str | Removed:
        return text if self._classifier.probability(text) >= self._threshold else Removed("low quality")

    def figures(self) -> JsonObject:
        return self._classifier.figures | {"threshold": round(self._threshold, 4)}


def _examples(paths: tuple[str, ...]) -> Iterator[str]:
    for name in paths:
        path = Path(name)
        if not path.exists():
            raise UserError(f"quality_classifier: no such file or folder: {name}", "check the path")
        for file in sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]:
            try:
                text = file.read_text(encoding="utf-8")
                if file.suffix == ".jsonl":
                    yield from (str(json.loads(line)["text"]) for line in text.split("\n") if line.strip())
                else:
                    yield text
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"quality_classifier: {file} cannot be read: {error!r}",
                    "examples are UTF-8 text, or JSON lines with a field text",
                ) from None
