"""A form for recipes, made from their JSON Schema: sections and fields for the settings as they are, and the YAML of them.

The YAML is what counts: a field's change is a change of it, and a text that a person edits is read back. Which fields a
section has follows from the choices made: with `method: lora` there is a rank. Nothing here knows of a web page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import yaml

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.recipe import RecipeConfig
from parakit.recipe.schema import recipe_schema

FieldKind = Literal["text", "integer", "number", "switch", "choice", "list", "yaml"]
MAX_YAML = 200_000  # characters of a recipe that is read
GENERAL = "general"
ORDER = ("text", "tokenizer", "pretrain", "conversations", "finetune", "preferences", "align", "distill")

COMMON = frozenset(
    (
        *("name", "family", "size", "time", "paths", "primer", "validation_fraction", "deduplicate", "kind"),
        *(
            "vocab_size",
            "max_tokens",
            "learning_rate",
            "epochs",
            "seq_len",
            "batch_tokens",
            "objective",
            "method",
        ),
        *(
            "task",
            "rank",
            "alpha",
            "bits",
            "quant_group_size",
            "model",
            "student",
            "d_model",
            "n_layers",
            "n_heads",
        ),
        *(
            "n_kv_heads",
            "labels",
            "columns",
            "share",
            "size_budget",
            "accept_loss",
            "tasks",
            "suites",
            "gate",
        ),
    )
)
"""Settings that the form shows at once; the others of a section are folded."""


@dataclass(frozen=True)
class FormField:
    """One setting. `value` is None where the recipe does not set it; `default` is what then holds."""

    path: tuple[str, ...]
    title: str
    kind: FieldKind
    description: str
    value: Any
    default: str
    choices: tuple[str, ...] = ()

    @property
    def is_common(self) -> bool:
        """Whether the form shows it at once: a setting that most recipes choose, or that this one does."""
        return self.value is not None or self.path[-1] in COMMON


@dataclass(frozen=True)
class FormSection:
    """A group of settings. `present`: whether the recipe has it; an optional one can be added."""

    name: str
    title: str
    description: str
    fields: tuple[FormField, ...]
    present: bool
    optional: bool


@cache
def _schema() -> JsonObject:
    return recipe_schema()


def parse_yaml(text: str) -> JsonObject:
    """The settings of a recipe's text. `UserError` where it is no mapping."""
    if len(text) > MAX_YAML:
        raise UserError(f"the recipe has {len(text):,} characters", f"{MAX_YAML:,} are read at most")
    try:
        mapping = yaml.safe_load(text) if text.strip() else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"line {line + 1}: " if line is not None else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise UserError(f"{where}the recipe is no YAML: {problem}", "correct the text") from None
    if not isinstance(mapping, dict) or not all(isinstance(key, str) for key in mapping):
        raise UserError("the recipe is no group of settings", "write `name: my-model` in the first line")
    return mapping


def to_yaml(mapping: Mapping[str, Any]) -> str:
    """The text of a recipe."""
    text: str = yaml.safe_dump(dict(mapping), sort_keys=False, allow_unicode=True, width=100)
    return text if mapping else ""


def check(mapping: Mapping[str, Any]) -> RecipeConfig:
    """The recipe of these settings. `UserError` with the setting that is wrong and the way out."""
    return RecipeConfig.parse(mapping, "recipe")


def changed(mapping: Mapping[str, Any], path: Sequence[str], value: Any) -> JsonObject:
    """The settings with `value` at `path`; None takes the setting out, and the groups that became empty."""
    first, rest = path[0], path[1:]
    result = dict(mapping)
    if rest:
        inner = result.get(first)
        value = changed(inner if isinstance(inner, Mapping) else {}, rest, value)
        if not value and not (isinstance(inner, Mapping) and not inner):
            value = None
    if value is None:
        result.pop(first, None)
    else:
        result[first] = value
    return result


def read_value(kind: FieldKind, text: Any) -> Any:
    """What a person entered in a field, as the recipe has it; None for nothing. `UserError` where it is no such value."""
    if kind == "switch" or text is None:
        return text
    plain = str(text).strip()
    if not plain:
        return None
    if kind == "list":
        return [part.strip() for part in plain.splitlines() if part.strip()]
    if kind in ("integer", "number"):
        try:
            number = float(plain.replace(",", "").replace("_", ""))
        except ValueError:
            raise UserError(f"{plain!r} is no number", "write for example 1000 or 0.02") from None
        return int(number) if number.is_integer() and (kind == "integer" or "." not in plain) else number
    if kind == "yaml":
        try:
            return yaml.safe_load(plain)
        except (yaml.YAMLError, ValueError):
            raise UserError(f"{plain[:40]!r} is no YAML", "write for example {a: 1, b: 2}") from None
    return plain


def form_sections(mapping: Mapping[str, Any]) -> list[FormSection]:
    """The sections of the form for these settings, the general ones first."""
    properties = _schema()["properties"]
    general, groups = [], []
    for name, schema in properties.items():
        variants = _variants(schema)
        if variants is None:
            general.append(_field((name,), schema, mapping.get(name)))
        else:
            groups.append((name, schema, variants))
    ranks = {name: number for number, name in enumerate(ORDER)}
    groups.sort(key=lambda one: ranks.get(one[0], len(ranks)))
    sections = [FormSection(GENERAL, "General", "", tuple(general), True, False)]
    for name, schema, variants in groups:
        given = mapping.get(name)
        values = given if isinstance(given, Mapping) else {}
        chosen = _chosen(variants, values)
        fields = tuple(
            _field((name, key), inner, values.get(key), _constants(variants, key))
            for key, inner in chosen.get("properties", {}).items()
        )
        description = schema.get("description") or chosen.get("description") or ""
        optional = "default" in schema and schema["default"] is None
        sections.append(
            FormSection(name, _title(name), _first_sentence(description), fields, given is not None, optional)
        )
    return sections


def _variants(schema: JsonObject) -> list[JsonObject] | None:
    """The object schemas of a setting; None where it is a plain value or a list."""
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    found = []
    for option in options:
        inner = _resolve(option)
        if inner.get("oneOf") or inner.get("anyOf"):
            found += _variants(inner) or []
        elif inner.get("type") == "object" and inner.get("properties"):
            found.append(inner)
    return found or None


def _resolve(schema: JsonObject) -> JsonObject:
    while "$ref" in schema:
        found: Any = _schema()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _constants(variants: Sequence[JsonObject], key: str) -> tuple[str, ...]:
    """The values that tell the variants apart by this setting."""
    found: dict[str, None] = {}
    for variant in variants if len(variants) > 1 else ():
        inner = _resolve(variant.get("properties", {}).get(key, {}))
        for value in (inner["const"],) if "const" in inner else inner.get("enum", ()):
            found.setdefault(str(value))
    return tuple(found)


def _chosen(variants: Sequence[JsonObject], values: Mapping[str, Any]) -> JsonObject:
    """The variant that the values choose: the one whose constants they have, else the one whose constants are the default."""

    def fit(variant: JsonObject) -> int:
        score = 0
        for key, schema in variant.get("properties", {}).items():
            inner = _resolve(schema)
            if "const" in inner or "enum" in inner:
                allowed = [inner["const"]] if "const" in inner else inner["enum"]
                if key in values:
                    score += 4 if values[key] in allowed else -4
                elif "default" in schema:
                    score += 1
        return score

    return max(variants, key=fit)


def _field(path: tuple[str, ...], schema: JsonObject, value: Any, choices: Sequence[str] = ()) -> FormField:
    options = [_resolve(one) for one in schema.get("anyOf") or schema.get("oneOf") or [schema]]
    options = [one for one in options if one.get("type") != "null"]
    kind: FieldKind = "yaml"
    names = tuple(choices)
    if names:
        kind = "choice"
    elif any("enum" in one for one in options):
        kind, names = "choice", tuple(str(v) for one in options for v in one.get("enum", ()))
    elif any("const" in one for one in options):
        kind, names = "choice", tuple(str(one["const"]) for one in options if "const" in one)
    else:
        types = {one.get("type") for one in options}
        if types <= {"boolean"}:
            kind = "switch"
        elif "string" in types and not types & {"object", "array"}:
            kind = "text"
        elif types <= {"integer", "number"}:
            kind = "integer" if types == {"integer"} else "number"
        elif types == {"array"} and _resolve(options[0].get("items", {})).get("type") == "string":
            kind = "list"
    default = schema.get("default")
    shown = "chosen for the data" if default is None else str(default)
    return FormField(
        path, _title(path[-1]), kind, _text(schema, options), value, "" if default == [] else shown, names
    )


def _text(schema: JsonObject, options: Sequence[JsonObject]) -> str:
    return str(
        schema.get("description") or next((o["description"] for o in options if "description" in o), "")
    )


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].strip().removesuffix(".")
