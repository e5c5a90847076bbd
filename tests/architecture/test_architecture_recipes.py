"""Every recipe in recipes/ runs at a tiny setting, from its text to its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from package import ROOT

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

# What makes any recipe take seconds. A key applies where the recipe has its section; the stages stay the
# recipe's own.
TINY: dict[str, Any] = {
    "time": None,
    "size": "60k",
    "text.primer.n_documents": 300,
    "tokenizer.vocab_size": 512,
    "pretrain.epochs": None,
    "pretrain.max_tokens": 2_000,
    "pretrain.batch_tokens": 1024,
    "pretrain.validate_every": 2,
    "conversations.primer.n_conversations": 120,
    "examples.primer.n_examples": 150,
    "examples.primer.n_test_examples": 12,
    "finetune.epochs": None,
    "finetune.max_steps": 2,
    "finetune.batch_tokens": 1024,
    "preferences.primer.n_examples": 60,
    "preferences.primer.n_test_examples": 8,
    "distill.epochs": None,
    "distill.max_steps": 2,
    "distill.keep_layers": 1,
    "evaluate.max_new_tokens": 4,
    "evaluate.suites.n_suite_items": 8,
}


# Of a recipe that begins with a published model, whose lengths follow from its time.
TINY_START: dict[str, Any] = {"time": None, "pretrain.max_steps": 2, "finetune.max_steps": 2}


def tiny_overrides(path: Path) -> dict[str, Any]:
    """The part of TINY whose sections the recipe has."""
    from parakit.common.settings import load_yaml

    recipe = load_yaml(path)
    if "start" in recipe:
        return {
            key: value for key, value in TINY_START.items() if recipe.get(key.partition(".")[0]) != "none"
        } | {f"{section}.epochs": None for section in ("finetune",) if "epochs" in recipe.get(section, {})}

    def applies(key: str) -> bool:
        if key == "finetune.batch_tokens" and "conversations" not in recipe:
            return False  # examples are counted in rows
        *sections, last = key.split(".")
        found: Any = recipe
        for part in sections:
            if not isinstance(found, dict) or part not in found:
                return False
            found = found[part]
        if not isinstance(found, dict):
            return False  # `pretrain: none`
        return TINY[key] is not None or last in found  # None takes away what the recipe says

    overrides = {key: value for key, value in TINY.items() if applies(key)}
    if "align" in recipe:
        overrides["align"] = [step | {"epochs": None, "max_steps": 1} for step in recipe["align"]]
    return overrides


def test_there_are_recipes() -> None:
    assert "primer" in [path.stem for path in RECIPES]


@pytest.fixture
def users_files(
    request: pytest.FixtureRequest, text: Path, conversations: Path, path: Path, tmp_path: Path
) -> dict[str, Any]:
    """What the user of a recipe that begins with a published model replaces; of other recipes nothing."""
    from parakit.common.settings import load_yaml

    recipe = load_yaml(path)
    if "start" not in recipe:
        return {}
    if "index" in recipe:  # passages need a wide context
        wide = {"start": str(request.getfixturevalue("published_wide"))}
        tiny = {"encoder": "none", "n_questions": 6, "paths": [str(_pages(tmp_path / "pages"))]}
        return wide | {f"index.{key}": value for key, value in tiny.items()} | {"evaluate.max_new_tokens": 3}
    start = {"start": str(request.getfixturevalue("published_decoder"))}
    if "from_documents" in recipe["conversations"]:
        return start | {"text.paths": [str(_pages(tmp_path / "pages"))]}
    return start | {"text.paths": [str(text)], "conversations.paths": [str(conversations)]}


def _pages(folder: Path) -> Path:
    """Twelve short documents with facts."""
    folder.mkdir()
    for i in range(12):
        page = f"# Town {i}\n\nMayor: Mister{i:02d}\nThe town hall of the place was built in {1800 + i} by Maria Holm{i}.\n"
        (folder / f"{i}.md").write_text(page, encoding="utf-8")
    return folder


EVERY = [  # the primer is built whole, also at a tiny setting, in tests/recipe/test_recipe_post_training.py
    pytest.param(path, id=path.stem, marks=pytest.mark.long if path.stem == "primer" else ())
    for path in RECIPES
]


@pytest.mark.parametrize("path", EVERY)
def test_recipe_runs_at_a_tiny_setting(
    path: Path, users_files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parakit.recipe.builder import build, load_recipe

    monkeypatch.chdir(ROOT)  # a recipe's paths are relative to where the command runs
    recipe = load_recipe(path, tiny_overrides(path) | users_files)
    summary = build(recipe, tmp_path).to_dict()
    folder = tmp_path / recipe.name
    assert summary["stages"]
    assert (folder / "summary.json").is_file()
    assert (folder / "report.html").is_file()
