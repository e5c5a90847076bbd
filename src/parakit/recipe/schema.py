"""The recipe's JSON Schema, for completion and validation in editors.

Made from the settings themselves, so it cannot say anything else than they do. `python -m
parakit.recipe.schema recipes/recipe.schema.json` writes the file that the recipes' first line names.
"""

from __future__ import annotations

import json
import sys

from parakit.common.files import JsonObject, write_text_atomic
from parakit.recipe.config import RecipeConfig


def recipe_schema() -> JsonObject:
    """JSON Schema (draft 2020-12) of a recipe file."""
    schema = RecipeConfig.model_json_schema()
    size = schema["properties"]["size"]
    size["anyOf"] = [*size["anyOf"], {"type": "integer"}]  # `size: 5000000` is read, too
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Parakit recipe"}
    return head | {key: value for key, value in schema.items() if key != "title"}


def schema_text() -> str:
    """The schema file's content, to the byte."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text_atomic(sys.argv[1], schema_text())
