"""The JSON Schema for editors is up to date, and the recipes keep to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parakit.common.settings import load_yaml
from parakit.recipe import load_recipe
from parakit.recipe.schema import recipe_schema, schema_text

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def faults(value: Any, schema: dict[str, Any], definitions: dict[str, Any], at: str = "") -> list[str]:
    """A small validator for the part of JSON Schema that settings need."""
    if "$ref" in schema:
        return faults(value, definitions[schema["$ref"].rsplit("/", 1)[1]], definitions, at)
    if "anyOf" in schema:
        tried = [faults(value, choice, definitions, at) for choice in schema["anyOf"]]
        return [] if [] in tried else max(tried, key=lambda found: found[0].count("."))
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kinds |= {"integer": int, "number": (int, float)}
    kind = schema.get("type")
    if kind and (
        not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind in ("integer", "number"))
    ):
        return [f"{at}: no {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: not one of {schema['enum']}"]
    if kind == "object":
        known = schema["properties"]
        found = [f"{at}.{key}: unknown" for key in value if key not in known]
        inner = [faults(value[key], known[key], definitions, f"{at}.{key}") for key in value if key in known]
        return found + [fault for each in inner for fault in each]
    if kind == "array":
        return [
            f
            for i, each in enumerate(value)
            for f in faults(each, schema.get("items", {}), definitions, f"{at}.{i}")
        ]
    return []


def recipe_faults(recipe: dict[str, Any]) -> list[str]:
    schema = recipe_schema()
    return faults(recipe, schema, schema["$defs"])


def test_the_schema_file_is_up_to_date():
    assert (FOLDER / "recipe.schema.json").read_text(encoding="utf-8") == schema_text(), "run `make schema`"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_the_schema_and_keeps_to_it(path):
    assert path.read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert recipe_faults(load_yaml(path)) == []
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("recipe", "fault"),
    [
        ({"tokeniser": {}}, ".tokeniser: unknown"),
        ({"text": {"primer": {"sead": 1}}}, ".text.primer.sead: unknown"),
        ({"finetune": {"optimizer": "adagrad"}}, ".finetune.optimizer: not one of"),
        ({"text": {"paths": "a"}}, ".text.paths: no array"),
        ({"max_seq_len": "long"}, ".max_seq_len: no integer"),
    ],
)
def test_the_schema_finds_the_mistakes_that_parakit_finds(recipe, fault):
    assert recipe_faults(recipe)[0].startswith(fault)


def test_every_key_has_a_description_or_a_group_behind_it():
    schema = recipe_schema()
    assert all("description" in d or "anyOf" in d or "$ref" in d for d in schema["properties"].values())
    assert {"type": "integer"} in schema["properties"]["size"]["anyOf"]


def test_the_schema_is_written_to_the_given_path(tmp_path):
    subprocess.run([sys.executable, "-m", "parakit.recipe.schema", str(tmp_path / "s.json")], check=True)
    assert json.loads((tmp_path / "s.json").read_text()) == recipe_schema()
