"""The recipe: its settings and JSON Schema, its stages, the build graph and the builder."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "RecipeConfig": "config",
        "build": "builder",
        "built_in_recipe": "builder",
        "dry_run": "builder",
        "load_recipe": "builder",
        "recipe_for_text": "builder",
    },
)
__all__ = [
    "RecipeConfig",
    "build",
    "built_in_recipe",
    "dry_run",
    "load_recipe",
    "recipe_for_text",
]
