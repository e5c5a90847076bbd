"""A prompt is a YAML or JSON file: templates with named fields, examples, where the answer is in a reply, and a version.

    name: sentiment
    kind: few_shot
    system: You classify film reviews.
    template: "Review: {{ review }}\nSentiment:"
    examples: [{review: A joy., answer: positive}, {review: Dull., answer: negative}]
    settings: {max_new_tokens: 8}

Templates are Jinja in the sandbox that chat templates have: no attributes, no imports. FieldValues of fields are texts of a
message, so they never become control tokens. Imports no torch, and no numpy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Config, closest_match, config_digest
from parakit.common.yaml_reading import YamlFault, parse_yaml

if TYPE_CHECKING:
    from parakit.data.conversations.messages import Message

PromptKind = Literal[
    "instruction",
    "zero_shot",
    "few_shot",
    "chain_of_thought",
    "role",
    "structured_output",
    "self_critique",
    "step_back",
    "other",
]
SelectBy = Literal["random", "similar", "gain"]
"""How examples are chosen out of training rows."""
SUFFIXES = (".yaml", ".yml", ".json")
ANSWER = "answer"
"""The field of an example that holds its answer."""
MAX_TEMPLATE = 100_000  # characters
FieldValues = Mapping[str, Any]


class ReplySettings(Config):
    """How replies are written."""

    max_new_tokens: int = Field(default=256, ge=1, description="Length limit of each reply in tokens.")
    temperature: float = Field(default=0.0, ge=0, le=100, description="0: the likeliest token is taken.")
    json_schema: dict[str, Any] | None = Field(
        default=None,
        description="The last reply is JSON of this schema; a local model can write nothing else.",
    )


class PromptTemplate(Config):
    """A prompt. `UserError` names an unknown key with the nearest known one, and a template's mistake."""

    name: str = Field(
        max_length=100, pattern=r"^\w[\w.-]*$", description="Names the prompt in tables and folders."
    )
    version: str = Field(default="1", description="Changes with the prompt's text.")
    kind: PromptKind = Field(default="other", description="Which of the usual kinds this is.")
    summary: str = Field(default="", description="One line for lists.")
    system: str = Field(default="", max_length=MAX_TEMPLATE, description="Template of the system message.")
    template: str = Field(
        min_length=1, max_length=MAX_TEMPLATE, description="Template of the user's message."
    )
    followups: tuple[str, ...] = Field(
        default=(),
        description="Templates of further messages, each sent after the reply to the one before. The answer is in the last"
        " reply.",
    )
    reply: str = Field(
        default="{{ answer }}", description="Template of an example's reply, from the example's fields."
    )
    values: dict[str, str] = Field(
        default_factory=dict, description="Fields with a value, which an item may replace."
    )
    examples: tuple[dict[str, Any], ...] = Field(
        default=(), description="Examples with the template's fields and `answer`, shown as earlier turns."
    )
    n_shots: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="How many examples are drawn from training rows, if there are any.",
    )
    answer_after: str | None = Field(
        default=None, min_length=1, description="The answer follows the last of these words in the reply."
    )
    answer_key: str | None = Field(
        default=None, min_length=1, description="The reply is a JSON object with the answer under this key."
    )
    answer_choices: tuple[str, ...] = Field(
        default=(), description="The answers that there are: the likeliest is taken, and nothing is written."
    )
    settings: ReplySettings = ReplySettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.answer_after is not None and self.answer_key is not None:
            raise ValueError("answer_after and answer_key are two places of one answer: set one of them")
        if self.answer_choices and (self.followups or len(set(self.answer_choices)) < 2):
            raise ValueError("answer_choices are two or more different answers to a prompt without followups")
        for text in (self.system, self.template, self.reply, *self.followups):
            compiled_template(text)
        known = {*self.fields, *_names(self.reply), ANSWER}
        for number, example in enumerate(self.examples, 1):
            given = {**self.values, **example}
            if missing := [field for field in (*self.required, *_names(self.reply)) if field not in given]:
                raise ValueError(f"example {number} lacks the field {missing[0]!r}")
            if unknown := [key for key in example if key not in known]:
                near = closest_match(unknown[0], known)
                hint = f"; did you mean {near!r}?" if near else ""
                raise ValueError(f"example {number} has {unknown[0]!r}, which no template reads{hint}")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the messages read, sorted."""
        texts = (self.system, self.template, *self.followups)
        return tuple(sorted({name for text in texts for name in _names(text)}))

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that every item must have."""
        return tuple(name for name in self.fields if name not in self.values)

    @property
    def digest(self) -> str:
        """Of everything but the name and the summary: equal prompts have equal ones."""
        return config_digest(self.model_dump(mode="json", exclude={"name", "summary"}))

    def messages(self, item: FieldValues, examples: Sequence[FieldValues] = ()) -> tuple[Message, ...]:
        """The conversation before the first reply: system text, examples as turns, the user's message. `examples` stand
        before the prompt's own. `UserError` for a field that the item lacks.
        """
        from parakit.data.conversations.messages import Message  # imports numpy

        given = {**self.values, **item}
        turns = [Message("system", render(self.system, given))] if self.system else []
        for example in (*examples, *self.examples):
            shown = {**self.values, **example}
            turns.append(Message("user", render(self.template, shown)))
            turns.append(Message("assistant", render(self.reply, shown)))
        return (*turns, Message("user", render(self.template, given)))

    def answer_in(self, text: str) -> str | None:
        """The answer in a reply; None where the reply has not the prompt's output form."""
        if self.answer_key is not None:
            return _of_json(text, self.answer_key)
        if self.answer_after is None:
            return text.strip()
        found = re.split(re.escape(self.answer_after), text, flags=re.IGNORECASE)
        if len(found) == 1:
            return None
        lines = found[-1].lstrip(" \t:*").strip().splitlines()
        return lines[0].strip(" \t*.\"'") if lines else ""


def render(template: str, values: FieldValues) -> str:
    """A template with values; without white space at its ends. `UserError` for a field without a value."""
    from jinja2 import UndefinedError

    from parakit.tokens.chat.template_environment import TemplateError

    texts = {key: value if isinstance(value, str | list) else str(value) for key, value in values.items()}
    try:
        text: str = compiled_template(template).render(texts)
    except UndefinedError as error:
        missing = [name for name in _names(template) if name not in values]
        near = closest_match(missing[0], values) if missing else None
        what = f"reads the field {missing[0]!r}, and the item has {', '.join(sorted(values)) or 'no field'}"
        raise UserError(
            f"the prompt {what}" if missing else f"the prompt's template fails: {error}",
            f"did you mean {near!r}? Rename the column, or the field of the template"
            if near
            else "add the column",
        ) from None
    except (TemplateError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"the prompt's template fails: {error}", "correct the template") from None
    return text.strip()


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import StrictUndefined

    from parakit.tokens.chat.template_environment import plain_environment

    environment = plain_environment()
    environment.undefined = StrictUndefined
    return environment


@lru_cache(maxsize=256)
def compiled_template(text: str) -> Any:
    """The compiled template; `ValueError` where it is none."""
    from jinja2 import TemplateSyntaxError

    try:
        return _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise ValueError(f"the template is invalid in line {error.lineno}: {error.message}") from None


@lru_cache(maxsize=256)
def _names(text: str) -> tuple[str, ...]:
    """The fields that a template reads."""
    from jinja2 import meta

    environment = _environment()
    found = meta.find_undeclared_variables(environment.parse(text))
    return tuple(sorted(found - set(environment.globals)))


def _of_json(text: str, key: str) -> str | None:
    """The value under `key` in the first JSON object of a text."""
    begin = text.find("{")
    if begin < 0:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(text[begin:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or key not in found:
        return None
    value = found[key]
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_prompt(path: str | Path) -> PromptTemplate:
    """The prompt in a file. `UserError` for a file that is missing, is neither YAML nor JSON, or is no prompt."""
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such prompt", "parakit prompts list shows the prompts of the library")
    if file.suffix.lower() not in SUFFIXES:
        ending = file.suffix or "no ending"
        raise UserError(f"{file}: {ending} is no prompt file", f"name a {' or '.join(SUFFIXES)} file")
    try:
        loaded = parse_yaml(file.read_text(encoding="utf-8"))
    except (YamlFault, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: not readable as YAML or JSON: {error}", "write `key: value` lines in UTF-8"
        ) from None
    if not isinstance(loaded, dict):
        raise UserError(f"{file}: holds no mapping of settings", "start with lines such as `name: my-prompt`")
    return PromptTemplate.parse({"name": file.stem} | loaded, str(file))


def with_values(prompt: PromptTemplate, values: JsonObject) -> PromptTemplate:
    """The prompt with other values of its fields. `UserError` for a field that no template reads."""
    for name in values:
        if name not in prompt.fields:
            near = closest_match(name, prompt.fields)
            raise UserError(
                f"the prompt {prompt.name} has no field {name!r}",
                f"did you mean {near!r}?" if near else f"its fields are {', '.join(prompt.fields) or 'none'}",
            )
    texts = {name: str(value) for name, value in values.items()}
    return prompt.replace(values={**prompt.values, **texts})
