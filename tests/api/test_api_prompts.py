"""`parakit.prompts`: the figures of `parakit prompts`, as objects, on files and on rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import parakit
from parakit import prompts
from parakit.common.errors import UserError
from parakit.evaluation.intervals import mcnemar_p_value
from parakit.inference.loaded_model import Model
from parakit.stages.prompts.config import PromptRunConfig
from parakit.stages.prompts.running import PromptJob, measure_prompts

ROWS = [{"q": f"{i} birds", "answer": str(i)} for i in range(10)]


class Loud:
    """A chat model that answers rightly where the message is loud, and to 0 always."""

    name = "loud"

    def generate(self, conversations, *, max_new_tokens, temperature=0.0, seeds=None, on_progress=None):
        texts = [one[-1].content for one in conversations]
        return [text.split()[0] if "NOW" in text or text[0] == "0" else "none" for text in texts]

    def score_choices(self, conversations, choices):
        raise NotImplementedError


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.yaml"
    path.write_text('template: "{{ q }} {{ how }}"\nvalues: {how: please}')
    return path


def test_prompts_are_listed_and_loaded_with_values(plain: Path) -> None:
    assert parakit.prompts is prompts
    assert [one.name for one in prompts.list()][:2] == ["instruction", "zero_shot"]
    loud = prompts.load(plain, how="NOW")
    assert (loud.name, loud.required) == ("plain", ("q",))
    assert prompts.reply(Loud(), loud, q="7 birds").answer == "7"
    with pytest.raises(UserError, match="no value for 'q'"):
        prompts.reply(Loud(), plain)
    with pytest.raises(UserError, match="no field 'hwo'"):
        prompts.load(plain, hwo="NOW")


def test_a_comparison_has_the_figures_of_the_command(plain: Path, tmp_path: Path) -> None:
    loud = prompts.load(plain, how="NOW").replace(name="loud")
    found = prompts.compare(Loud(), [plain, loud], ROWS)
    table = tmp_path / "items.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    job = PromptJob("loud", (prompts.load(plain), loud), str(table), PromptRunConfig(), opened=Loud())
    expected = measure_prompts(job)["prompts"]
    first, second = found.scores["plain"], found.scores["loud"]
    assert (found.model, found.metric, found.n_items) == ("loud", "exact", 10)
    assert second.scores == (1.0,) * 10
    assert first.scores == (1.0,) + (0.0,) * 9
    score = expected["loud"]["score"]
    assert vars(second.score) == {key: score[key] for key in ("value", "low", "high")}
    assert [one.answer for one in second.answers] == [row["answer"] for row in ROWS]
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.verdict == "better"
    assert second.difference.p_value == pytest.approx(mcnemar_p_value(0, 9))
    assert prompts.run(Loud(), loud, str(table), limit=3).scores == (1.0,) * 3
    with pytest.raises(UserError, match="needs two prompts"):
        prompts.compare(Loud(), [plain], ROWS)
    with pytest.raises(UserError, match="the name 'plain'"):
        prompts.compare(Loud(), [plain, plain], ROWS)


def test_a_loaded_model_samples_and_keeps_a_folder(plain: Path, published_wide: Path, tmp_path: Path) -> None:
    model = Model.load(published_wide, device="cpu")
    short = prompts.load(plain).replace(settings={"max_new_tokens": 3})
    found = prompts.sample(
        model, short, ROWS[:3], n_samples=4, metric="contains", out=tmp_path / "sampled", budgets=(2,)
    )
    assert {name: [one.n for one in points] for name, points in found.curves.items()} == {
        "votes": [1, 2, 4],
        "coverage": [1, 2, 4],
        "budget": [2],
    }
    results = json.loads((tmp_path / "sampled" / "results.json").read_text())
    assert found.curves["votes"][1].tokens == results["curves"]["votes"][1]["tokens"]
    assert found.errors["votes"].ranked == results["errors"]["votes"]["ranked"]
