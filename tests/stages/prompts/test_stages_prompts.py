"""Prompts measured on a table: scores, paired verdicts, costs, examples by gain, and runs that resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from parakit.assistants.prompts.items import PromptItem
from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.assistants.prompts.selection import example_pool
from parakit.common.errors import UserError
from parakit.evaluation.comparison.folders import read_scores
from parakit.evaluation.intervals import mcnemar_p_value
from parakit.stages.prompts.config import PromptRunConfig, ScoreConfig
from parakit.stages.prompts.gain import select_by_gain
from parakit.stages.prompts.running import PromptJob, measure_prompts
from parakit.stages.prompts.scoring import last_number, make_scorer

PLAIN = PromptTemplate(name="plain", template="{{ q }}")
LOUD = PromptTemplate(name="loud", template="{{ q }} NOW")


class Loud:
    """A chat model that counts right only where the message is loud, or where an example is `good`."""

    name = "loud"

    def __init__(self, fails_after: int | None = None) -> None:
        self.n_left, self.n_written = fails_after, 0

    def generate(self, conversations, *, max_new_tokens, temperature=0.0, seeds=None, on_progress=None):
        texts = []
        for one in conversations:
            if self.n_left is not None and self.n_written >= self.n_left:
                raise UserError("the endpoint is gone")
            self.n_written += 1
            number = one[-1].content.split()[0]
            is_right = "NOW" in one[-1].content or any("good" in turn.content for turn in one[:-1])
            texts.append(number if is_right or number == "0" else "none")
        return texts

    def score_choices(self, conversations, choices):
        if self.n_left is not None and self.n_written >= self.n_left:
            raise UserError("the endpoint is gone")
        self.n_written += len(conversations)
        return [[0.7, 0.3] if "birds" in one[-1].content else [0.8, 0.2] for one in conversations]


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"q": f"{i} birds", "answer": str(i)}) + "\n" for i in range(12)))
    return str(path)


def job(table: str, model: Loud, *prompts: PromptTemplate, **settings: object) -> PromptJob:
    return PromptJob("loud", prompts or (PLAIN, LOUD), table, PromptRunConfig(**settings), opened=model)


def test_every_prompt_is_compared_with_the_first_on_the_same_items(table, tmp_path):
    results = measure_prompts(job(table, Loud()), tmp_path / "out")
    plain, loud = results["prompts"]["plain"], results["prompts"]["loud"]
    assert (plain["score"]["value"], loud["score"]["value"]) == (1 / 12, 1.0)
    assert plain["comparison"] is None
    found = loud["comparison"]
    assert found["verdict"] == "better"
    assert found["scores"]["exact"]["p_value"] == pytest.approx(mcnemar_p_value(0, 11))
    assert found["scores"]["prompt_tokens"]["difference"] > 0
    assert loud["prompt_tokens"]["value"] > plain["prompt_tokens"]["value"]
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    scores = read_scores(tmp_path / "out" / "evaluations" / "loud").benchmarks["prompts"]
    assert [item.answer for item in scores.items] == [str(i) for i in range(12)]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in page
    assert "{{ q }} NOW" in page
    assert (tmp_path / "out" / "comparison.html").is_file()
    with pytest.raises(UserError, match="exists already"):
        measure_prompts(job(table, Loud()), tmp_path / "out")


def test_a_run_that_was_interrupted_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("parakit.stages.prompts.running.chunk_size", lambda model: 4)
    path = tmp_path / "items.csv"
    path.write_text("q,answer\n" + "".join(f"{i} birds,{i}\n" for i in range(12)))
    with pytest.raises(UserError, match="gone"):
        measure_prompts(job(str(path), Loud(fails_after=18)), tmp_path / "out")
    model = Loud()
    measure_prompts(job(str(path), model), tmp_path / "out")
    assert model.n_written == 24 - 16
    assert not list(tmp_path.glob(".out.work"))


def test_calibrated_choices_resume(tmp_path, monkeypatch):
    monkeypatch.setattr("parakit.stages.prompts.running.chunk_size", lambda model: 4)
    path = tmp_path / "items.csv"
    path.write_text("q,answer\n" + "".join(f"{i} birds,no\n" for i in range(12)))
    choosing = PLAIN.replace(answer_choices=("yes", "no"))
    with pytest.raises(UserError, match="gone"):
        measure_prompts(job(str(path), Loud(fails_after=11), choosing, calibrate=True), tmp_path / "out")
    model = Loud()
    results = measure_prompts(job(str(path), model, choosing, calibrate=True), tmp_path / "out")
    assert model.n_written == 3 + 4  # inputs without content, and the items of the last chunk
    assert results["prompts"]["plain"]["score"]["value"] == 1.0
    plain = measure_prompts(job(str(path), Loud(), choosing))
    assert plain["prompts"]["plain"]["score"]["value"] == 0.0


def test_settings_that_do_nothing_are_refused(table, tmp_path):
    for settings, message in (
        ({"examples": table}, "no prompt draws examples"),
        ({"calibrate": True}, "no prompt has `answer_choices`"),
        ({"judge": "m"}, "the metric is exact"),
        ({"metric": "judge"}, "needs a judge"),
        ({"metric": "checker", "checker": "none.py"}, "no such checker"),
        ({"answer_field": "target"}, "12 of 12 items have no 'target'"),
    ):
        with pytest.raises(UserError, match=message):
            measure_prompts(job(table, Loud(), **settings))
    with pytest.raises(UserError, match="shows 2 examples, and there are none"):
        measure_prompts(job(table, Loud(), PLAIN.replace(n_shots=2)))


def test_examples_by_gain_are_those_that_raise_the_score():
    names = ["good" if i == 7 else "bad" for i in range(24)]
    rows = [PromptItem(str(i), {"q": f"{i + 1} {name}"}, (str(i + 1),)) for i, name in enumerate(names)]
    pool = example_pool(rows, [], "train")
    scorer = make_scorer(ScoreConfig(), rows)
    found = [select_by_gain(Loud(), PLAIN, pool, 2, scorer, seed) for seed in range(4)]
    assert all(len(one) == 2 for one in found)
    # where the good row is a candidate it is chosen, and as the first where it is among the first candidates
    chosen = [any("good" in example["q"] for example in one) for one in found]
    assert any(chosen)
    with pytest.raises(UserError, match="too few"):
        select_by_gain(Loud(), PLAIN, example_pool(rows[:3], [], "train"), 3, scorer, 0)


@pytest.mark.parametrize(
    ("metric", "answer", "score"),
    [
        ("exact", "The Bird.", 1.0),
        ("exact", "a small bird", 0.0),
        ("f1", "a small bird", 2 / 3),
        ("contains", "It is the bird, I think", 1.0),
        ("contains", "birds", 0.0),
        ("exact", None, 0.0),
    ],
)
def test_answers_are_scored(metric: str, answer: str | None, score: float):
    item = PromptItem("1", {}, ("tree", "bird"))
    assert make_scorer(ScoreConfig(metric=metric), [item])([(item, answer)]) == [pytest.approx(score)]


def test_the_last_number_counts():
    assert last_number("3 + 4 makes 1,207.50 euros.") == 1207.5
    assert last_number("v2 is -4") == -4
    assert last_number("none") is None


def test_a_checker_runs_in_the_sandbox(tmp_path, isolation):
    checker = tmp_path / "check.py"
    checker.write_text(
        "def check(answer, item):\n    print('noise')\n    return len(answer) == int(item['n'])\n"
    )
    items = [PromptItem(str(i), {"n": str(i)}) for i in range(3)]
    score = make_scorer(ScoreConfig(metric="checker", checker=str(checker)), items)
    assert score([(items[0], "ab"), (items[2], "ab"), (items[1], None)]) == [0.0, 1.0, 0.0]
    checker.write_text("def check(answer, item):\n    return open('/etc/passwd').read()\n")
    with pytest.raises(UserError, match="the checker failed on one of 1 answers"):
        make_scorer(ScoreConfig(metric="checker", checker=str(checker)), items)([(items[0], "a")])
    checker.write_text("def check(answer, item):\n    return 2\n")
    with pytest.raises(UserError, match=r"returned 2\.0"):
        make_scorer(ScoreConfig(metric="checker", checker=str(checker)), items)([(items[0], "a")])


def test_costs_are_means_of_the_items(table):
    found = measure_prompts(job(table, Loud(), PLAIN))["prompts"]["plain"]
    lengths = [len(f"{i} birds".encode()) // 3 + 8 for i in range(12)]
    assert found["prompt_tokens"]["value"] == pytest.approx(np.mean(lengths))
