"""Every rule holds on src/parakit, and where it makes sense on benchmarks/ and tests/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import import_graph
import import_rules
import prose_rules
import pytest
import size_rules
import surface_rules
import vocabulary_rules
import written_rules
from package import ROOT, SRC

Rule = Callable[[Path], list[str]]

SOURCE_RULES: list[Rule] = [
    import_rules.packages_out_of_order,
    import_graph.import_circles,
    import_rules.torch_where_it_must_not_be,
    import_rules.foreign_packages_out_of_place,
    size_rules.long_files,
    size_rules.long_functions,
    size_rules.full_folders,
    size_rules.empty_names,
    size_rules.unfinished_code,
    vocabulary_rules.synonyms,
    vocabulary_rules.private_words,
    prose_rules.private_prose_in_code,
    vocabulary_rules.public_synonyms,
    vocabulary_rules.class_suffixes,
    vocabulary_rules.foreign_weight_names,
    surface_rules.init_files_with_code,
    surface_rules.modules_without_docstring,
    surface_rules.exports_hidden_by_a_module,
    surface_rules.stray_printing,
    surface_rules.untyped_public_functions,
    surface_rules.shared_names,
]
EVERYWHERE_RULES: list[Rule] = [
    size_rules.long_files,
    size_rules.long_functions,
    size_rules.full_folders,
    size_rules.empty_names,
    vocabulary_rules.private_words,
    surface_rules.changed_clocks,
]
BENCHMARK_RULES: list[Rule] = [
    *EVERYWHERE_RULES,
    size_rules.unfinished_code,
    vocabulary_rules.synonyms,
    vocabulary_rules.class_suffixes,
    surface_rules.modules_without_docstring,
]


def _name(rule: object) -> str:
    return getattr(rule, "__name__", str(rule))


@pytest.mark.parametrize("rule", SOURCE_RULES, ids=_name)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert rule(SRC) == []


@pytest.mark.parametrize("rule", BENCHMARK_RULES, ids=_name)
def test_benchmarks_keep_the_rule(rule: Rule) -> None:
    assert rule(ROOT / "benchmarks") == []


@pytest.mark.parametrize("rule", EVERYWHERE_RULES, ids=_name)
def test_tests_keep_the_rule(rule: Rule) -> None:
    assert rule(ROOT / "tests") == []


def test_test_files_have_unique_names_and_mirror_the_packages() -> None:
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    names = [path.name for path in paths]
    assert sorted(set(names)) == sorted(names)
    unknown = {p.relative_to(ROOT / "tests").parts[0] for p in paths}
    allowed = set(import_rules.MAY_IMPORT) | {
        "api",
        "architecture",
        "attacks",
        "benchmarks",
        "contracts",
        "published",
    }
    assert unknown <= allowed


def test_no_personal_traces_are_left() -> None:
    assert written_rules.personal_traces(ROOT) == []
