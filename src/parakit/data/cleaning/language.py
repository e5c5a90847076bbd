"""Documents by their language, recognized offline.

By default with py3langid (after Lui & Baldwin 2012, "langid.py"; the model is in the package), or with a fastText model
(Joulin et al. 2017) from a file of the user's, read by fasttext-predict. Of a long document three pieces are looked at.
Where no language is named, the one that most of the text is in stays, which takes a pass over the corpus.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.cleaning.corpus_steps import CorpusStep
from parakit.data.cleaning.libraries import load_library
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed, TextStep

PIECE_CHARS = 300  # of each of the three pieces that are looked at
UNSURE = "unsure"

Detect = Callable[[str], str]
"""The code of a text's language, or `UNSURE`."""


class LanguageConfig(StepConfig):
    """Which languages stay."""

    step: Literal["language"] = "language"
    keep: tuple[str, ...] = Field(
        default=(),
        description="Codes of the languages that stay, such as [en, de]; none: the one that most of the text is in.",
    )
    among: tuple[str, ...] = Field(
        default=(),
        description="Recognize these languages only, which is surer where one knows them; none: all.",
    )
    min_chars: int = Field(default=100, ge=1, description="Of a shorter document the language is unsure.")
    min_probability: float = Field(
        default=0.5, ge=0, le=1, description="Below it the language is unsure, too."
    )
    unsure: Literal["keep", "leave_out"] = Field(
        default="keep", description="What happens to documents of unsure language."
    )
    model: str | None = Field(
        default=None,
        description="A file with a fastText model of languages, such as lid.176.bin; None: py3langid.",
    )

    @model_validator(mode="after")
    def _kept_are_recognized(self) -> Self:
        if self.among and (missing := sorted(set(self.keep) - set(self.among))):
            raise UserError(f"`keep` has {', '.join(missing)}, and `among` has not", "add them to `among`")
        return self

    def build(self, folder: Path) -> TextStep | CorpusStep:
        detect = _fasttext(self) if self.model else _langid(self)
        return _Named(self, detect) if self.keep else _MostFrequent(self, detect)


class _Named:
    """Documents of named languages stay."""

    def __init__(self, config: LanguageConfig, detect: Detect) -> None:
        self._config, self._detect = config, detect

    def __call__(self, text: str) -> str | Removed:
        return _judge(self._detect(text), text, self._config.keep, self._config.unsure)


class _MostFrequent:
    """Documents of the language with the most characters stay. Memory: two bytes for each document."""

    def __init__(self, config: LanguageConfig, detect: Detect) -> None:
        self._config, self._detect = config, detect
        self._codes: list[str] = [UNSURE]
        self._sizes, self._counts = Counter[str](), Counter[str]()
        self._found = array("H")
        self._keep: tuple[str, ...] = ()

    def add(self, index: int, text: str) -> None:
        code = self._detect(text)
        if code not in self._codes:
            self._codes.append(code)
        self._found.extend([0] * (index - len(self._found)))
        self._found.append(self._codes.index(code))
        self._counts[code] += 1
        self._sizes[code] += len(text)

    def finish(self) -> None:
        sizes = sorted((-n, code) for code, n in self._sizes.items() if code != UNSURE)
        self._keep = (sizes[0][1],) if sizes else ()

    def apply(self, index: int, text: str) -> str | Removed:
        return _judge(self._codes[self._found[index]], text, self._keep, self._config.unsure)

    def figures(self) -> JsonObject:
        return {"kept_language": ", ".join(self._keep), "documents": dict(sorted(self._counts.items()))}


def _judge(code: str, text: str, keep: tuple[str, ...], unsure: str) -> str | Removed:
    if code in keep or (code == UNSURE and unsure == "keep"):
        return text
    return Removed("language unsure" if code == UNSURE else f"language {code}")


def language_sample(text: str) -> str:
    """The beginning, the middle and the end of a text, on one line, without what has no letters."""
    n = PIECE_CHARS
    if len(text) > 3 * n:
        middle = len(text) // 2 - n // 2
        text = "\n".join((text[:n], text[middle : middle + n], text[-n:]))
    return " ".join(word for word in text.split() if not word.startswith(("http://", "https://", "www.")))


def detect_language(text: str) -> str:
    """The code of the likeliest of all languages that py3langid knows; `UNSURE` for a text without letters."""
    if not any(map(str.isalpha, text)):
        return UNSURE
    return str(_identifier().classify(language_sample(text).encode("utf-8", "replace").decode())[0])


@cache
def _identifier() -> Any:
    langid = load_library("py3langid.langid", "language")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def _langid(config: LanguageConfig) -> Detect:
    identifier = copy(_identifier())
    known = set(identifier.nb_classes)
    if missing := sorted({*config.keep, *config.among} - known):
        raise UserError(
            f"language: py3langid does not know {', '.join(missing)}", f"it knows {', '.join(sorted(known))}"
        )
    if config.among:
        identifier.set_languages(list(config.among))

    def detect(text: str) -> str:
        if len(text) < config.min_chars or not any(map(str.isalpha, text)):
            return UNSURE
        code, probability = identifier.classify(language_sample(text).encode("utf-8", "replace").decode())
        return str(code) if probability >= config.min_probability else UNSURE

    return detect


def _fasttext(config: LanguageConfig) -> Detect:
    if not Path(str(config.model)).is_file():
        raise UserError(
            f"language: no such file: {config.model}", "name a fastText model, such as lid.176.bin"
        )
    fasttext = load_library("fasttext", "language", "pip install fasttext-predict")
    try:
        model: Any = fasttext.load_model(str(config.model))
    except Exception as error:
        raise UserError(
            f"language: {config.model} is no fastText model: {error}", "name another file"
        ) from None

    def detect(text: str) -> str:
        if len(text) < config.min_chars or not any(map(str.isalpha, text)):
            return UNSURE
        sample = language_sample(text).encode("utf-8", "replace").decode()
        labels, probabilities = model.predict(sample, k=-1 if config.among else 1)
        found = ((label.removeprefix("__label__"), p) for label, p in zip(labels, probabilities, strict=True))
        code, probability = next(
            (one for one in found if not config.among or one[0] in config.among), (UNSURE, 0)
        )
        return code if probability >= config.min_probability else UNSURE

    return detect
