"""Settings of a recipe that begins with a trained model: the model, and text of the kind that it knew. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.data.config import TextConfig

HUB = "hub:"
START = "start"  # the stage, and the model in what is measured
VOCABULARY = "vocabulary"  # the stage that gives that model more tokens

# How many, a list, or the path of a file
ExtendVocab = Annotated[int, Field(ge=1, strict=True)] | str | Annotated[tuple[str, ...], Field(min_length=1)]


class StartConfig(Config):
    """The published model that the recipe begins with: its tokenizer, chat template, shape and context are used."""

    model: str = Field(
        description="A model folder (published, imported or a build's), a GGUF file, or hub:ORGANISATION/MODEL."
    )
    fetch: bool = Field(default=False, description="Download the model where `model` names one of the hub.")
    revision: str | None = Field(
        default=None, description="Of a model of the hub: a branch, a tag or a commit."
    )
    accept_config: tuple[str, ...] = Field(
        default=(), description="Unknown keys of the model's config.json that you know to be harmless."
    )
    chat_template: str | None = Field(
        default=None, description="A file with a chat template (jinja), instead of the model's own."
    )
    extend_vocab: ExtendVocab | None = Field(
        default=None,
        description="With text: new tokens that shorten it: how many to learn, a list of words, or a file with one a line.",
    )

    @model_validator(mode="after")
    def _fits_the_source(self) -> Self:
        for name in ("fetch", "revision"):
            if getattr(self, name) and not self.is_hub:
                raise UserError(
                    f"`{name}` is set, and `model` is a path",
                    f"remove it, or write {HUB}ORGANISATION/MODEL",
                )
        return self

    def new_tokens(self) -> int | tuple[str, ...] | None:
        """How many tokens are new, or the words that become one; None: none. A file of them is read. Raises `UserError`
        where it cannot be.
        """
        if not isinstance(self.extend_vocab, str):
            return self.extend_vocab
        path = Path(self.extend_vocab).expanduser()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"start.extend_vocab: {path}: not readable as a text file: {error}",
                "name a file with one word a line, a number, or a list: [word, word]",
            ) from None
        words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if not words:
            raise UserError(f"start.extend_vocab: {path}: has no words", "write one a line")
        return words

    @property
    def is_hub(self) -> bool:
        """Whether the model is one of the hub, which is only fetched with `fetch`."""
        return self.model.startswith(HUB)


def start_mapping(value: Any) -> Any:
    """`FOLDER` as `{model: FOLDER}`."""
    return {"model": value} if isinstance(value, str) else value


# `start: FOLDER` is short for `start: {model: FOLDER}`
Start = Annotated[StartConfig, BeforeValidator(start_mapping, json_schema_input_type=StartConfig | str)]


class ReplayTextConfig(TextConfig):
    """Text of the kind that the model was trained on: mixed into continued pre-training against forgetting."""

    share: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="Fraction of the rows that come from this text; 0: measure only.",
    )

    @model_validator(mode="after")
    def _has_paths(self) -> Self:
        if not self.paths:
            raise UserError("no text to replay was given", "name files or folders: `paths: [general.txt]`")
        return self


def start_model(values: Mapping[str, Any]) -> str | None:
    """The model that a recipe's mapping starts from, as it is written."""
    start = start_mapping(values.get("start"))
    model = start.get("model") if isinstance(start, Mapping) else getattr(start, "model", None)
    return model if isinstance(model, str) else None
