"""The judge's benchmark knows the truth: which of its answers are right, and which of two grades is the higher one."""

from __future__ import annotations

from benchmarks.quality.verdicts import judge as program
from parakit.primer import generate_suites, is_correct
from parakit.primer.config import PrimerSuitesConfig


def test_the_votes_name_the_right_answer_of_every_question(monkeypatch) -> None:
    monkeypatch.setattr(program, "N_SUITE_ITEMS", 12)
    case = program._primer(3, with_reference=True)
    items = [
        item for found in generate_suites(PrimerSuitesConfig(n_suite_items=12)).values() for item in found[:3]
    ]
    assert len(items) == len(case.prompts) == 24
    answers = {name: [row["answer"] for row in rows] for name, rows in case.answers.items()}
    for i, (item, vote) in enumerate(zip(items, case.votes("pairwise"), strict=True)):
        other = program.NAMES[1 - program.NAMES.index(vote["winner"])]
        assert is_correct(item, answers[vote["winner"]][i])
        assert not is_correct(item, answers[other][i])
        assert case.prompts[i]["reference"] == item.answer
    assert set(case.better) == set(program.NAMES)  # neither file has all of the right ones
    grades = case.votes("graded")

    shown = [{"id": row["id"], "model": row["model"], "grade": float(row["grade"])} for row in grades]
    assert program._higher_grade(case, shown)["value"] == 1.0
    turned = [row | {"grade": 6 - row["grade"]} for row in shown]
    assert program._higher_grade(case, turned)["value"] == 0.0
