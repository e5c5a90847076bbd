"""The tables and checkers of the benchmarks of prompts: graded as the primer grades."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quality.assistants.prompt_checks import check
from benchmarks.quality.assistants.prompt_tables import SUITES, write_tables
from benchmarks.quality.assistants.step_checks import check as check_steps
from parakit.primer import SuiteItem, is_correct


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return write_tables(tmp_path_factory.mktemp("prompts"), 12)


@pytest.mark.parametrize("suite", SUITES)
def test_the_checker_grades_as_the_primer(tables, suite: str):
    rows = [json.loads(line) for path in tables[suite] for line in path.read_text().splitlines()]
    assert len(rows) == 24
    assert [row["question"] for row in rows[:12]] != [row["question"] for row in rows[12:]]
    replies = [row["answer"] for row in rows] + ["", "positive or negative", "It is 7.", "the vase"]
    for row in rows:
        item = SuiteItem(
            suite, (), row["answer"], tuple(row["accept"]), tuple(row["reject"]), check=row["check"]
        )
        given = {**row, "answers": [row["answer"]]}
        assert check(row["answer"], given)
        for reply in replies:
            assert check(reply, given) == is_correct(item, reply), (row, reply)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("10 + 5 = 15. 15 + 4 = 19. The answer is 19.", 1.0),
        ("10 + 5 = 16. 16 + 4 = 20. The answer is 20.", 5 / 6),
        ("10 + 5 = 15. 14 + 4 = 18. The answer is 18.", 5 / 6),
        ("10 + 5 = 15. 15 + 6 = 21. The answer is 21.", 5 / 6),
        ("10 + 5 = 15. 15 + 4 = 19. The answer is 9.", 5 / 6),
        ("Nineteen.", 0.0),
    ],
)
def test_written_steps_are_computed_again(answer: str, score: float):
    item = {"question": "Max owns 10 boats. He is given 5 more. Max finds 4 more boats. How many?"}
    assert check_steps(answer, item) == pytest.approx(score)
