"""Every recipe in recipes/ runs at a tiny setting, from its text to its report."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from house import ROOT

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
HAS_RECIPE_ROOM = (
    importlib.util.find_spec("parakit.recipe") is not None
    and importlib.util.find_spec("parakit.recipe.build") is not None
)


# HOOK: written for the recipe room's interface below; wire it to what stands there when it exists.
#   parakit.recipe.load_recipe(path) -> recipe        (a UserError for an unknown or unread key)
#   parakit.recipe.tiny(recipe) -> recipe             (the same stages at a size that takes seconds)
#   parakit.recipe.build(recipe, folder) -> None      (writes summary.json and report.html into folder)
@pytest.mark.skipif(not HAS_RECIPE_ROOM, reason="there is no recipe room yet")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs_at_a_tiny_setting(path: Path, tmp_path: Path) -> None:
    from parakit import recipe as recipe_room

    recipe = recipe_room.tiny(recipe_room.load_recipe(path))
    recipe_room.build(recipe, tmp_path / "build")
    assert (tmp_path / "build" / "summary.json").is_file()
    assert (tmp_path / "build" / "report.html").is_file()


@pytest.mark.skipif(not HAS_RECIPE_ROOM, reason="there is no recipe room yet")
def test_there_are_recipes() -> None:
    assert RECIPES
