"""Sampled replies: one set of them for every way to choose, a curve against tokens, verifiers and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.common.errors import UserError
from parakit.stages.prompts.config import PromptRunConfig, SampleConfig
from parakit.stages.prompts.running import PromptJob
from parakit.stages.prompts.sampling import measure_samples, sizes

PLAIN = PromptTemplate(name="plain", template="{{ q }}")


class Noisy:
    """A chat model that is right in two of three replies, with another wrong answer each time."""

    name = "noisy"

    def __init__(self) -> None:
        self.n_written = 0

    def generate(self, conversations, *, max_new_tokens, temperature=0.0, seeds=None, on_progress=None):
        texts = []
        for one in conversations:
            self.n_written += 1
            number = one[-1].content.split()[0]
            texts.append(f"It is {number}." if self.n_written % 3 else f"Or {100 + self.n_written}.")
        return texts


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"q": f"{i} birds", "answer": str(i)}) + "\n" for i in range(6)))
    return str(path)


def measure(table: str, model: Noisy, out: Path | None = None, **settings: object):
    config = SampleConfig.parse({"metric": "number", "n_samples": 6, **settings})
    return measure_samples(PromptJob("noisy", (PLAIN,), table, PromptRunConfig(), opened=model), config, out)


def test_votes_and_coverage_rise_with_the_replies(table, tmp_path):
    model = Noisy()
    results = measure(table, model, tmp_path / "out")
    assert model.n_written == 36  # once for all curves
    votes, covered = results["curves"]["votes"], results["curves"]["coverage"]
    assert [point["n"] for point in votes] == sizes(6) == [1, 2, 4, 6]
    assert votes[0]["value"] == covered[0]["value"] == pytest.approx(2 / 3)
    assert votes[-1]["value"] == covered[-1]["value"] == 1.0
    assert [point["tokens"] for point in votes] == sorted(point["tokens"] for point in votes)
    per_reply = votes[-1]["tokens"] - votes[0]["tokens"]
    assert votes[1]["tokens"] - votes[0]["tokens"] == pytest.approx(per_reply / 5)
    assert results["errors"]["votes"]["ranked"] == 1.0
    rows = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert [row["scores"] for row in rows] == [[1, 1, 0, 1, 1, 0]] * 6
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results


def test_a_checker_verifies_without_the_right_answer(table, tmp_path, isolation):
    checker = tmp_path / "check.py"
    checker.write_text(
        "def check(answer, item):\n    assert not item['answers']\n    return answer[0] == 'O'\n"
    )
    results = measure(table, Noisy(), verifiers=[str(checker)])
    points = results["curves"][str(checker)]  # it prefers the wrong ones
    assert points[-1]["value"] == 0.0
    assert results["errors"][str(checker)] == {"ranked": 0.0, "missed": 1.0, "n_pairs": 48, "n_items": 6}


def test_what_cannot_be_sampled_is_refused(table):
    for settings, message in (
        ({"budgets": [4]}, "budgets need a local model"),
        ({"verifiers": ["votes", "votes"]}, "named twice"),
        ({"verifiers": ["no-such-folder"]}, "no such verifier"),
        ({"budgets": [0]}, "1 or more"),
    ):
        with pytest.raises(UserError, match=message):
            measure(table, Noisy(), **settings)
