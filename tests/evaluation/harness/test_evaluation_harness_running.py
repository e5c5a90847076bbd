"""lm-eval's tasks on local data: the same items, answers and scores as its own evaluation of the same model in transformers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import parakit
from parakit.checkpoints import load_model
from parakit.common.errors import UserError
from parakit.evaluation.config import EvaluationConfig
from parakit.evaluation.evaluate import evaluate_model, write_evaluation
from parakit.evaluation.harness.backends import make_backend
from parakit.evaluation.harness.model import HarnessModel
from parakit.evaluation.results import BenchmarkResult, read_result

Evaluate = Callable[..., dict[str, BenchmarkResult]]


@pytest.fixture
def evaluate(model_folder: Path, data: Path) -> Evaluate:
    def run(*tasks: str, folder: Path = model_folder, **settings: Any) -> dict[str, BenchmarkResult]:
        config = EvaluationConfig(tasks=tasks, **({"prompting": "plain", "data": str(data)} | settings))
        found: dict[str, BenchmarkResult] = evaluate_model(folder, config)["benchmarks"]
        return found

    return run


def reference(folder: Path, data: Path, task: str, n_shots: int | None) -> list[dict[str, Any]]:
    """Of lm-eval itself with transformers: its samples of a task."""
    import torch
    from lm_eval.evaluator import evaluate as lm_evaluate
    from lm_eval.models.huggingface import HFLM

    from parakit.evaluation.harness.tasks import TaskLoader

    [loaded] = TaskLoader(data).load(task, n_shots)
    model = HFLM(
        pretrained=str(folder), device="cpu", dtype=torch.float32, batch_size=4, softmax_dtype=torch.float64
    )
    groups = {} if loaded.group is None else {loaded.name: loaded.group}
    tasks = {one.task_name: one for one in loaded.tasks}
    for one in loaded.tasks:
        if one.OUTPUT_TYPE == "generate_until":
            one.config.generation_kwargs["max_gen_toks"] = 8
    found = lm_evaluate(model, {"tasks": tasks, "groups": groups}, bootstrap_iters=0, limit=4)
    return [sample for name in tasks for sample in found["samples"][name]]


@pytest.mark.parametrize(
    ("task", "n_shots"),
    [("arc_easy", None), ("mmlu_anatomy", 3), ("lambada_openai", None), ("winogrande", None), ("gsm8k", 2)],
)
def test_scores_are_lm_eval_s_own(
    model_folder: Path, data: Path, evaluate: Evaluate, task: str, n_shots: int | None
) -> None:
    wanted = reference(model_folder, data, task, n_shots)
    [found] = evaluate(task, n_shots=n_shots, limit=4, max_new_tokens=8).values()
    by_filter = {sample["filter"] for sample in wanted}
    assert len(found.items) == len(wanted) / len(by_filter)
    assert found.n_truncated == 0
    for name in by_filter:
        for item, sample in zip(found.items, [one for one in wanted if one["filter"] == name], strict=True):
            for metric in sample["metrics"]:
                key = metric if name == "none" else f"{metric},{name}"
                key = "log_likelihood" if key == "perplexity" else key
                assert item.scores[key] == pytest.approx(sample[metric], abs=1e-4), (item.id, key)
            if sample["doc"].get("answer", "").__class__ is str and task == "gsm8k":
                assert item.answer == sample["resps"][0][0]


def test_a_group_has_its_subjects_and_a_perplexity_is_no_mean(evaluate: Evaluate, tmp_path: Path) -> None:
    group = tmp_path / "two.yaml"
    group.write_text(
        "group: two\ntask:\n- {group: algebra, task: [mmlu_abstract_algebra]}\n- mmlu_anatomy\n"
        "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    found = evaluate(f"{group},lambada_openai")
    two, lambada = found["two"], found["lambada_openai"]
    assert two.n == 10
    assert set(two.groups) == {"anatomy", "abstract_algebra", "two::algebra"}
    assert two.groups["anatomy"]["acc"].n == 5
    assert two.groups["two::algebra"]["acc"] == two.groups["abstract_algebra"]["acc"]
    assert [item.id for item in two.items][:2] == ["abstract_algebra/0", "abstract_algebra/1"]
    assert two.items[1].target == "two"
    mean = sum(item.scores["log_likelihood"] for item in lambada.items) / lambada.n
    assert lambada.scores["perplexity"].value == pytest.approx(math.exp(-mean))
    assert not lambada.scores["perplexity"].higher_is_better
    assert (lambada.main, two.main) == ("acc", "acc")


def test_the_protocol_tells_shots_limits_and_templates_apart(evaluate: Evaluate) -> None:
    plain = evaluate("arc_easy", limit=2)["arc_easy"].protocol
    again = evaluate("arc_easy", limit=2)["arc_easy"].protocol
    assert plain == again
    assert plain.program == "lm-eval 0.4.13"
    assert (plain.split, plain.version, plain.n_shots) == ("test", "1.0", 0)
    assert set(plain.differences(evaluate("arc_easy", limit=3)["arc_easy"].protocol)) == {
        "data_digest",
        "prompts_digest",
        "settings",
    }
    chat = evaluate("arc_easy", limit=2, prompting="chat", system_prompt="Be brief.")["arc_easy"].protocol
    assert set(plain.differences(chat)) == {"prompts_digest", "prompting", "system_prompt"}


def test_an_evaluation_folder_gives_the_items_back(
    evaluate: Evaluate, model_folder: Path, tmp_path: Path
) -> None:
    config = EvaluationConfig(tasks=("arc_easy",), data=None, prompting="plain")
    results = {"model": {"path": str(model_folder)}, "loss": {}, "examples": None, "suites": {}}
    results["benchmarks"] = evaluate("arc_easy")
    write_evaluation(tmp_path / "out", results, config)
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "items" not in kept["benchmarks"]["arc_easy"]
    assert read_result(tmp_path / "out", "arc_easy", kept) == results["benchmarks"]["arc_easy"]


def test_an_interrupted_run_resumes_with_what_it_had(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of four requests; the second one is interrupted, as by Ctrl-C."""
    monkeypatch.setattr("parakit.evaluation.harness.model.MIN_BLOCK", 4)
    monkeypatch.setattr("parakit.evaluation.harness.model.MAX_BLOCK", 4)
    computed: list[int] = []
    original = HarnessModel._score

    def score(self: HarnessModel, items: Any) -> Any:
        if len(computed) == 1 and stop:
            raise KeyboardInterrupt
        computed.append(len(items))
        return original(self, items)

    monkeypatch.setattr(HarnessModel, "_score", score)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        evaluate("arc_easy")
    stop, first = False, len(computed)
    whole = evaluate("arc_easy")
    assert first == 1
    assert sum(computed) == 24
    computed.clear()
    assert evaluate("arc_easy") == whole
    assert not computed


def test_progress_counts_every_request_once(model_folder: Path, data: Path) -> None:
    done: list[int] = []
    totals: list[int] = []
    for _ in range(2):
        parakit.evaluate(
            model_folder,
            tasks=["mmlu_anatomy", "gsm8k"],
            data=str(data),
            prompting="plain",
            n_shots=1,
            max_new_tokens=3,
            on_progress=done.append,
            on_total=totals.append,
        )
    assert totals == [23, 23]
    assert sum(done) == 46


def test_a_prompt_longer_than_the_window_is_counted(evaluate: Evaluate) -> None:
    short = evaluate("gsm8k", n_shots=1, max_new_tokens=4)["gsm8k"]
    long = evaluate("gsm8k", n_shots=8, max_new_tokens=4)["gsm8k"]
    assert (short.n_truncated, long.n_truncated) == (0, 3)
    assert long.without_items()["n_truncated"] == 3


def test_repeated_requests_that_are_sampled_are_other_samples(
    evaluate: Evaluate, model_folder: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"q": "Anna sees", "a": "the bird"}\n{"q": "Tom sees", "a": "the book"}\n')
    task = tmp_path / "mine.yaml"
    task.write_text(
        f"task: mine\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {rows}}}}}\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\nrepeats: 3\n"
        "generation_kwargs: {do_sample: true, temperature: 1.5, max_gen_toks: 6, until: ['.']}\n"
        "filter_list: [{name: all, filter: [{function: take_first_k, k: 3}]}]\n"
        "metric_list: [{metric: bypass}]\n"
    )
    [found] = evaluate(str(task)).values()
    assert found.n == 2
    assert found.protocol.settings["generation"]["temperature"] == 1.5


def test_bad_input_is_refused_before_any_work(evaluate: Evaluate, tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match="there is no task arc_eazy") as found:
        evaluate("arc_eazy")
    assert "arc_easy" in found.value.hint
    with pytest.raises(UserError, match="needs the data set allenai/openbookqa") as found:
        evaluate("openbookqa")
    assert "openbook_qa.jsonl" in found.value.hint
    with pytest.raises(UserError, match="9 examples are wanted in the prompt, and its data has 8"):
        evaluate("gsm8k", n_shots=9)
    with pytest.raises(UserError, match=r"6 examples .* has 5"):
        evaluate("mmlu_anatomy", n_shots=6)
    with pytest.raises(UserError, match="no such task file"):
        evaluate(str(tmp_path / "task.yaml"))
    with pytest.raises(UserError, match=r"no such folder"):
        evaluate("arc_easy", data=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="generates up to 256 tokens"):
        evaluate("gsm8k", n_shots=1)


def test_a_broken_row_of_a_user_s_task_is_named(evaluate: Evaluate, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    task = tmp_path / "mine.yaml"
    task.write_text(
        f"task: mine\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {rows}}}}}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
        "doc_to_choice: '{{choices}}'\n"
    )
    good = {"question": "q", "choices": ["a", "b"], "answer": 1}
    rows.write_text(f"{json.dumps(good)}\n{{\n")
    with pytest.raises(UserError, match="line 2: is not JSON"):
        evaluate(str(task))
    rows.write_text(f"{json.dumps(good)}\n{json.dumps(good | {'choices': None})}\n")
    with pytest.raises(UserError, match="task mine: row 2 cannot be made into a prompt"):
        evaluate(str(task))
    rows.write_text(f"{json.dumps(good)}\n")
    assert evaluate(str(task))["mine"].n == 1


def test_a_continuation_over_the_window_is_refused_before_anything_is_scored(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.instance import Instance

    network, tokenizer = load_model(model_folder)
    assert tokenizer is not None
    model = HarnessModel(make_backend(network, tokenizer), tokenizer)
    monkeypatch.setattr(model.computes, "score", lambda pairs: pytest.fail("it was scored"))
    requests = [
        Instance("loglikelihood", {}, ("Once", text), i)
        for i, text in enumerate([" upon a time", " and so on" * model.max_seq_len])
    ]
    with pytest.raises(UserError, match=r"a continuation has \d+ tokens, and the context window holds"):
        model.loglikelihood(requests)
