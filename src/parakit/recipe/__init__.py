"""The recipe: its schema, its stages, the build graph, and the report of what was made."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "RecipeConfig": "config",
        "build": "building",
        "built_in_recipe": "building",
        "dry_run": "building",
        "load_recipe": "building",
        "recipe_for_text": "building",
        "write_report": "report",
    },
)
__all__ = [
    "RecipeConfig",
    "build",
    "built_in_recipe",
    "dry_run",
    "load_recipe",
    "recipe_for_text",
    "write_report",
]
