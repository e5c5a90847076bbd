"""What the benchmark of overoptimization works out by itself: pairs with errors, agreement, where a run ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pictures import by_distance, draw_overoptimization, medians
from benchmarks.research.overoptimization.proxy import agreement, draw_pairs
from benchmarks.research.overoptimization.run import RUNS, end_figures, summed
from parakit.alignment.rl.prompts import SampledCompletion
from parakit.data.conversations.conversation import Message


def answers(n_prompts: int, n_answers: int) -> tuple[list[SampledCompletion], np.ndarray]:
    gold = np.arange(n_prompts * n_answers, dtype=float).reshape(n_prompts, n_answers)
    gold[0] = 1.0  # equally good: never compared
    names = [(p, a) for p in range(n_prompts) for a in range(n_answers)]
    return [
        SampledCompletion((Message("user", f"prompt {p}"),), None, f"{gold[p, a]:g}") for p, a in names
    ], gold


def test_pairs_are_of_one_prompt_and_wrong_as_often_as_requested() -> None:
    samples, gold = answers(6, 4)
    for rate in (0.0, 0.25):
        rows = draw_pairs(samples, gold, 400, rate, seed=3)
        wrong = [float(row["chosen"]) < float(row["rejected"]) for row in rows]
        assert sum(wrong) / len(rows) == pytest.approx(rate, abs=0.06)
        assert "prompt 0" not in {row["prompt"] for row in rows}
        for row in rows:
            number = int(row["prompt"].split()[1])
            assert {float(row["chosen"]), float(row["rejected"])} <= set(gold[number])
    assert rows == draw_pairs(samples, gold, 400, 0.25, seed=3)


def test_agreement_is_the_share_of_pairs_in_the_right_order() -> None:
    _, gold = answers(5, 4)
    assert agreement(gold, gold) == 1.0
    assert agreement(-gold, gold) == 0.0
    assert agreement(np.array([[1.0, 3.0, 2.0]]), np.array([[1.0, 2.0, 3.0]])) == pytest.approx(2 / 3)


def test_a_run_is_judged_by_its_highest_gold() -> None:
    points = [[0, 0.0, 0.0, 0.0, 0.0], [2, 1.0, 0.5, 0.4, 0.8], [4, 9.0, 2.0, -1.0, 0.5]]
    found = end_figures(points, [["monitor gold", 2.0], ["mode_collapse", 4.0], ["kl_high", 4.0]])
    assert (found["kl_at_first_warning"], found["fall_at_first_warning"]) == (9.0, 1.4)
    assert end_figures(points, [["kl_high", 2]])["fall_at_first_warning"] == 0.0
    assert (found["gold_highest"], found["kl_at_highest"]) == (0.4, 1.0)
    assert found["gold_fall"] == pytest.approx(1.4)
    assert found["proxy_rise_since"] == pytest.approx(1.5)
    assert found["second_proxy_fall"] == pytest.approx(0.3)


def test_the_picture_is_drawn_of_lines_of_unlike_length(tmp_path: Path) -> None:
    line = [[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 4.0, 1.0, 0.5, 0.2]]
    assert medians([line, line[:1]]).tolist() == line
    away_and_back = [[0.0, 0.0, 0.0, 0.0], [1.0, 9.0, 1.0, 0.5], [2.0, 1.0, 2.0, 0.1]]
    assert by_distance([away_and_back, away_and_back])[:, 1].tolist() == [0.0, 1.0, 9.0]
    rounds = [
        dict.fromkeys((*RUNS, "best_of_n"), line),
        dict.fromkeys((*RUNS, "best_of_n"), line[:1]),
    ]
    draw_overoptimization(tmp_path / "one.svg", rounds)
    draw_overoptimization(tmp_path / "two.svg", rounds)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    figures = {name: end_figures(line, []) for name in RUNS}
    found = summed([{"figures": figures, "points": {}, "warnings": {}}] * 2)
    assert found["grpo_no_kl"]["gold_end"]["n"] == 2
