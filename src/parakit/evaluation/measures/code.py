"""Programs that a model writes, tested in the sandbox: HumanEval (Chen et al. 2021) and MBPP (Austin et al. 2021).

A problem is solved where a completion passes all its tests. With one greedy completion that is pass@1; with `n_samples`
sampled ones pass@1, @10 and @100 are estimated without bias. Nothing runs outside the sandbox: without one the measure is
refused before the model writes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.evaluation.measures.answers import generate_answers
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.measures.rows import draw, find_file, protocol, read_rows
from parakit.evaluation.metrics.pass_at_k import pass_at_k
from parakit.evaluation.results import BenchmarkResult, Item, summarize_items
from parakit.inference.config import SamplingConfig
from parakit.sandbox import UnitTests, parse_tests, run_tests_of_many
from parakit.sandbox.fenced_code import code_of
from parakit.sandbox.pool import available_isolation

KS = (1, 10, 100)
SAMPLING = {"temperature": 0.8, "top_p": 0.95}  # of several completions, as Chen et al. for large k
CPU_SECONDS = 3  # Chen et al.'s time limit
MBPP_CPU_SECONDS = 10  # a published solution needs more than 3
HUMANEVAL_STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MBPP_TEST = range(11, 511)  # task ids of the published test split
MBPP_SHOTS = (2, 3, 4)
HUMANEVAL_KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
MBPP_KEYS = ("task_id", "text", "code", "test_list", "test_setup_code")


@dataclass(frozen=True)
class CodeProblem:
    """A prompt, a program that solves it, and its tests; `shots` are examples that come before the prompt."""

    id: str
    prompt: str
    solution: str
    tests: UnitTests
    shots: str = ""


def measure_humaneval(given: MeasureInput) -> BenchmarkResult:
    """pass@k on HumanEval; needs `humaneval/HumanEval.jsonl.gz` in the data."""
    rows = read_rows(
        find_file(given, "humaneval", "humaneval/HumanEval.jsonl.gz", "humaneval/HumanEval.jsonl"),
        HUMANEVAL_KEYS,
    )
    problems = draw([humaneval_problem(row, chat=given.chat) for row in rows], given, "humaneval")
    config = SamplingConfig(temperature=0.0, max_new_tokens=1024, stop=() if given.chat else HUMANEVAL_STOP)
    return _measure(given, "humaneval", rows, problems, config, n_shots=0)


def measure_mbpp(given: MeasureInput) -> BenchmarkResult:
    """pass@k on the test split of MBPP, three examples before each; needs `mbpp/mbpp.jsonl.gz` in the data."""
    rows = read_rows(find_file(given, "mbpp", "mbpp/mbpp.jsonl.gz", "mbpp/mbpp.jsonl"), MBPP_KEYS)
    by_id = {int(row["task_id"]): row for row in rows}
    missing = [i for i in MBPP_SHOTS if i not in by_id]
    if missing:
        raise UserError(
            f"mbpp: its file has no task {missing[0]}, an example of the prompt", "use the whole file"
        )
    shots = "".join(_mbpp_prompt(by_id[i]) + _unix(by_id[i]["code"]) + "\n[DONE]\n\n" for i in MBPP_SHOTS)
    problems = [
        problem for i in MBPP_TEST if i in by_id and (problem := mbpp_problem(by_id[i], shots)) is not None
    ]
    config = SamplingConfig(temperature=0.0, max_new_tokens=512, stop=("[DONE]",))
    return _measure(given, "mbpp", rows, draw(problems, given, "mbpp"), config, n_shots=len(MBPP_SHOTS))


def humaneval_problem(row: Mapping[str, Any], *, chat: bool = False) -> CodeProblem:
    """A row of HumanEval: the prompt is the beginning of a program, or a request to complete it."""
    shape = {"check": row["test"], "entry_point": row["entry_point"], "setup": row["prompt"]}
    prompt = row["prompt"]
    if chat:
        prompt = (
            "Complete this Python function. Answer with the whole program in one code block.\n\n"
            f"```python\n{prompt.strip()}\n```"
        )
    tests = parse_tests(shape | {"cpu_seconds": CPU_SECONDS}, row["task_id"])
    return CodeProblem(row["task_id"], prompt, row["canonical_solution"], tests)


def mbpp_problem(row: Mapping[str, Any], shots: str = "") -> CodeProblem | None:
    """A row of MBPP; None where its tests hand over objects of the program's own classes, which the sandbox does not pass
    on (one of the 500).
    """
    code = _unix(row["code"])
    tests = [_unix(test) for test in row["test_list"]]
    setup = _unix(row["test_setup_code"] or "")
    if any(f"class {name}" in code for name in _called_names(setup)):
        return None
    shape: dict[str, Any] = {"asserts": tests, "setup": setup, "cpu_seconds": MBPP_CPU_SECONDS}
    shadowed = [name for name in ("sum", "max", "min", "sorted") if f"def {name}(" in code]
    if shadowed:  # a function that is named as a builtin would count as no function of the program
        shape["entry_point"] = shadowed[0]
    return CodeProblem(
        f"MBPP/{row['task_id']}",
        _mbpp_prompt(row),
        code,
        parse_tests(shape, f"MBPP/{row['task_id']}"),
        shots,
    )


def _mbpp_prompt(row: Mapping[str, Any]) -> str:
    tests = "\n".join(_unix(test) for test in row["test_list"][:3])
    return (
        f"You are an expert Python programmer, and here is your task: {row['text']}"
        f" Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def _called_names(source: str) -> Iterator[str]:
    for line in source.splitlines():
        name, bracket, _ = line.partition("=")[2].strip().partition("(")
        if bracket:
            yield name.strip()


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _measure(
    given: MeasureInput,
    task: str,
    data: Sequence[object],
    problems: Sequence[CodeProblem],
    config: SamplingConfig,
    *,
    n_shots: int,
) -> BenchmarkResult:
    available_isolation()
    n = given.n_samples
    if n > 1:
        config = config.model_copy(update={**SAMPLING, "n": n})
    prompts = [problem.shots + problem.prompt for problem in problems]
    answers = generate_answers(given, prompts, config)
    programs = [
        (code_of(text) if given.chat else text, problem.tests)
        for problem, texts in zip(problems, answers.texts, strict=True)
        for text in texts
    ]
    results = iter(run_tests_of_many(programs))
    items = []
    for problem, texts in zip(problems, answers.texts, strict=True):
        outcomes = [next(results) for _ in texts]
        n_passed = sum(outcome.outcome == "passed" for outcome in outcomes)
        scores = {f"pass_at_{k}": pass_at_k(n, n_passed, k) for k in KS if k <= n}
        scores["timed_out"] = sum(outcome.outcome == "timed_out" for outcome in outcomes) / n
        items.append(Item(problem.id, problem.prompt, problem.solution, texts[0], scores))
    settings = {
        "max_new_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "n_samples": n,
        **({"seed": given.seed, "top_p": config.top_p} if n > 1 else {}),
    }
    found = protocol(
        task,
        given,
        data,
        prompts,
        n_shots=n_shots,
        split="test",
        settings=settings,
    )
    return summarize_items(
        found, items, "pass_at_1", lower_is_better=("timed_out",), n_truncated=answers.n_truncated
    )
