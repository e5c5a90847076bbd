"""Every declared check has all its texts, a contract test that shows it catching its mistake, and an entry in the docs."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from pitfalls_page import PAGE, page

from parakit.training.doctor.registry import Check, all_checks, checks_for
from parakit.training.tasks import TASKS
from tests.contracts.task_cases import CASE_TASKS
from tests.contracts.training_cases import TrainingCase
from tests.short_suite import shortened

OTHER_NAMES = {"corpus", "distill", "replay", "prompts"}


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.name)
def test_a_check_has_a_name_and_all_texts(check: Check) -> None:
    assert check.name.replace("-", "").isalpha()
    assert check.name == check.name.lower()
    assert check.applies_to <= TASKS.keys() | {spec.row_format for spec in TASKS.values()} | OTHER_NAMES
    for text in (check.prevents, check.noticed_by, check.remedy):
        assert len(text.split()) > 2
        assert text[0].isupper()
        assert text[-1] == "."
    assert check.subject


def test_every_check_has_a_contract_test_that_shows_it_failing() -> None:
    """The marker is proof: a marked test fails unless the check has failed in it (conftest.py)."""
    assert {check.name for check in all_checks()} == _caught_names()


def _caught_names() -> set[str]:
    """The names in `pytest.mark.catches(...)` of this folder."""
    names: set[str] = set()
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.catches":
                names |= {ast.literal_eval(argument) for argument in node.args}
    return names


@shortened(
    "task", ["next_token", "chat", *CASE_TASKS], ("next_token", "chat", "masked", "translate", "tag", "embed")
)
def test_a_healthy_run_passes_each_check_of_its_task_once(
    task: str, healthy_case: Callable[..., TrainingCase], healthy_task: Callable[..., TrainingCase]
) -> None:
    case = healthy_case(task) if task in ("next_token", "chat") else healthy_task(task)
    results = case.results()
    expected = [check.name for check in checks_for((case.spec.name, case.spec.row_format))]
    assert [result.name for result in results] == expected
    assert all(result.passed for result in results)


def test_the_page_of_pitfalls_is_generated_from_the_declarations() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make pitfalls`"
