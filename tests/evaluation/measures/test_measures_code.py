"""Generated programs: pass@k, what counts as solved, and published problems with right and wrong programs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import pytest

from parakit.common.errors import UserError
from parakit.evaluation.measures import answers, code
from parakit.evaluation.measures.answers import GeneratedAnswers, generate_answers
from parakit.evaluation.measures.code import humaneval_problem, mbpp_problem, measure_humaneval, measure_mbpp
from parakit.evaluation.measures.rows import read_rows
from parakit.evaluation.metrics.pass_at_k import pass_at_k
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate
from parakit.sandbox import run_tests_of_many
from parakit.sandbox.fork_server import SandboxError

HUMANEVAL = [
    {
        "task_id": f"HumanEval/{i}",
        "prompt": f'def add{i}(a, b):\n    """The sum."""\n',
        "entry_point": f"add{i}",
        "canonical_solution": "    return a + b\n",
        "test": f"def check(candidate):\n    assert candidate(2, 3) == 5\n    assert candidate({i}, 1) == {i + 1}\n",
    }
    for i in range(3)
]
MBPP = [
    {"task_id": i, "text": f"Write a function to add {i}.", "code": f"def f(a):\r\n  return a + {i}",
     "test_setup_code": "", "test_list": [f"assert f({n}) == {n + i}" for n in range(3)]}
    for i in (2, 3, 4, 11, 12)
]  # fmt: skip


def test_pass_at_k_is_the_share_of_all_choices_with_one_that_passes():
    for n in range(1, 8):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            choices = list(itertools.combinations(range(n), k))
            share = Fraction(sum(min(choice) < c for choice in choices), len(choices))
            assert pass_at_k(n, c, k) == pytest.approx(float(share), abs=1e-12)
    assert pass_at_k(400, 3, 100) == pytest.approx(1 - math.comb(397, 100) / math.comb(400, 100), abs=1e-12)


@pytest.mark.usefixtures("isolation")
def test_a_problem_is_solved_where_the_completion_passes_all_tests(
    given, write_data, check_result, tmp_path, monkeypatch
):
    """The completions are set here: a right one, one that is wrong for one test, one that ends never."""
    write_data("humaneval/HumanEval.jsonl", HUMANEVAL)
    written = ["    return a + b\n", "    return 5\n", "    while True: pass\n"]
    monkeypatch.setattr(code, "CPU_SECONDS", 1)
    monkeypatch.setattr(
        code,
        "generate_answers",
        lambda given, prompts, config: GeneratedAnswers(tuple((text,) for text in written), 0),
    )
    result = measure_humaneval(given)
    check_result(result, tmp_path)
    assert [item.scores["pass_at_1"] for item in result.items] == [1.0, 0.0, 0.0]
    assert [item.scores["timed_out"] for item in result.items] == [0.0, 0.0, 1.0]
    assert result.scores["pass_at_1"].value == pytest.approx(1 / 3)
    assert not result.scores["timed_out"].higher_is_better


@pytest.mark.usefixtures("isolation")
def test_several_samples_give_pass_at_k_and_are_repeatable(given, write_data, monkeypatch):
    write_data("humaneval/HumanEval.jsonl", HUMANEVAL)
    seen = []

    def sampled(given, prompts, config):
        seen.append(config)
        right = ["    return a + b\n"] * 3 + ["    return None\n"] * 7
        return GeneratedAnswers((tuple(right),) * len(prompts), 0)

    monkeypatch.setattr(code, "generate_answers", sampled)
    result = measure_humaneval(dataclasses.replace(given, n_samples=10))
    assert result.items[0].scores == {"pass_at_1": pytest.approx(0.3), "pass_at_10": 1.0, "timed_out": 0.0}
    assert (seen[0].n, seen[0].temperature) == (10, 0.8)
    assert result.protocol.settings["n_samples"] == 10


@pytest.mark.usefixtures("isolation")
def test_mbpp_has_three_examples_before_each_problem_of_the_test_split(given, write_data, monkeypatch):
    write_data("mbpp/mbpp.jsonl", MBPP)
    prompts = []

    def solved(given, texts, config):
        prompts.extend(texts)
        return GeneratedAnswers(tuple((row["code"],) for row in MBPP[3:]), 0)

    monkeypatch.setattr(code, "generate_answers", solved)
    result = measure_mbpp(given)
    assert [item.id for item in result.items] == ["MBPP/11", "MBPP/12"]
    assert result.scores["pass_at_1"].value == 1
    assert prompts[0].count("[BEGIN]") == 4
    assert prompts[0].count("[DONE]") == 3
    assert "\r" not in prompts[0]
    assert result.items[0].prompt == prompts[0].rpartition("[DONE]\n\n")[2]
    write_data("mbpp/mbpp.jsonl", MBPP[1:])
    with pytest.raises(UserError, match="no task 2"):
        measure_mbpp(given)


def test_tests_that_hand_over_objects_are_left_out_and_a_builtins_name_is_no_builtin():
    row = MBPP[3] | {
        "code": "class Node:\n  pass\ndef f(a):\n  return a",
        "test_setup_code": "root = Node(1)",
    }
    assert mbpp_problem(row) is None
    row = MBPP[3] | {"code": "def sum(a, b):\n  return a - b", "test_list": ["assert sum(3, 1) == 2"]}
    problem = mbpp_problem(row)
    assert problem is not None
    assert problem.tests.names == ("sum",)


def test_without_a_sandbox_nothing_is_generated(given, write_data, monkeypatch):
    write_data("humaneval/HumanEval.jsonl", HUMANEVAL)

    def refuse():
        raise SandboxError("generated code cannot be confined on this machine", "use Linux")

    monkeypatch.setattr(code, "available_isolation", refuse)
    monkeypatch.setattr(code, "generate_answers", lambda *_: pytest.fail("generated"))
    with pytest.raises(SandboxError, match="cannot be confined"):
        measure_humaneval(given)


def test_answers_are_those_of_single_prompts_and_long_prompts_are_counted(given, monkeypatch):
    monkeypatch.setattr(answers, "PROMPTS_AT_ONCE", 2)
    config = SamplingConfig(temperature=0.0, max_new_tokens=5)
    prompts = ["Anna sees", "the bird " * 400, "Where does", "Tom works in"]
    done: list[int] = []
    found = generate_answers(dataclasses.replace(given, advance=done.append), prompts, config)
    assert done == [2, 2]
    assert found.n_truncated == 1
    for i in (0, 2, 3):
        assert found.texts[i] == (generate(given.model, given.tokenizer, prompts[i], config).text,)
    chat = generate_answers(dataclasses.replace(given, chat=True), prompts, config)
    assert chat.n_truncated == 1
    assert chat.texts[1] == ("",)
    sampled = SamplingConfig(temperature=1.0, max_new_tokens=5, n=2)
    first, again = (generate_answers(given, prompts, sampled) for _ in range(2))
    assert first == again
    assert generate_answers(dataclasses.replace(given, seed=1), prompts, sampled) != first


@pytest.mark.long
@pytest.mark.usefixtures("isolation")
def test_published_solutions_pass_and_wrong_programs_fail(public_data):
    """All 164 problems of HumanEval, with the solution and with a program that computes something else."""
    from benchmarks.quality.measures.program_mutants import changed_program

    rows = read_rows(public_data("humaneval") / "HumanEval.jsonl.gz")
    problems = [humaneval_problem(row) for row in rows]
    results = run_tests_of_many([(one.solution, one.tests) for one in problems])
    assert [result.outcome for result in results] == ["passed"] * 164
    wrong = [changed_program(row) for row in rows]
    assert all(wrong)
    results = run_tests_of_many([(str(text), one.tests) for text, one in zip(wrong, problems, strict=True)])
    assert [one.id for one, result in zip(problems, results, strict=True) if result.outcome == "passed"] == []


@pytest.mark.long
@pytest.mark.usefixtures("isolation")
def test_published_solutions_of_mbpp_pass(public_data):
    rows = read_rows(public_data("mbpp") / "mbpp.jsonl.gz")
    problems = [mbpp_problem(row) for row in rows if row["task_id"] in code.MBPP_TEST]
    kept = [one for one in problems if one is not None]
    assert len(kept) == 499
    results = run_tests_of_many([(one.solution, one.tests) for one in kept])
    assert [one.id for one, result in zip(kept, results, strict=True) if result.outcome != "passed"] == []
