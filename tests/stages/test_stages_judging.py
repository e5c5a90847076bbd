"""A judging run from end to end: an endpoint that fails half-way or talks nonsense, local judges, votes, bad input."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from parakit.checkpoints.model_folder import save_model
from parakit.cli.main import main
from parakit.common.artifacts import Lineage, open_artifact
from parakit.common.errors import UserError
from parakit.data.conversations.messages import Message
from parakit.evaluation.judging.config import JudgeConfig
from parakit.evaluation.results import read_result
from parakit.model import DecoderConfig
from parakit.model.heads import RewardModel
from parakit.stages.judging import JudgeJob, judge_models
from parakit.stages.judging.sources import short_names
from parakit.tokens.chat.template import compile_chat
from tests.alignment.chat_server import chat_server, completion
from tests.alignment.tiny_chat_model import chat_model_folder, tiny_chat_model

N = 12
WHO = re.compile(r"\[Answer (A|B)\]\n(\w+)")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model_folder(tmp_path_factory.mktemp("models") / "chat", 1024)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def answers(tmp_path: Path) -> tuple[str, str]:
    """Two models' answers: the good one's begin with `good`."""
    folder = tmp_path / "answers"
    folder.mkdir()
    return tuple(  # type: ignore[return-value]
        write_rows(
            folder / f"{name}.jsonl",
            [{"id": i, "prompt": f"Question {i}?", "answer": f"{name} {i}"} for i in range(N)],
        )
        for name in ("good", "poor")
    )


def prefers_good(_: str, body: Any, __: Any) -> Any:
    """An endpoint that always knows the good answer."""
    letters = {who: letter for letter, who in WHO.findall(body["messages"][-1]["content"])}
    return completion(letters["good"])


def endpoint_job(url: str, answers: tuple[str, ...], **settings: Any) -> JudgeJob:
    votes = settings.pop("votes", None)
    return JudgeJob(url, JudgeConfig(judge_model="j", **settings), answers=answers, votes=votes)


def test_an_endpoint_judges_and_votes_measure_it(answers: tuple[str, str], tmp_path: Path) -> None:
    rows = [{"id": i, "model_a": "poor", "model_b": "good", "winner": "model_b"} for i in range(N - 2)]
    rows.append({"id": N - 2, "model_a": "good", "model_b": "poor", "winner": "poor"})
    rows.append({"id": N - 1, "model_a": "good", "model_b": "poor", "winner": "tie (bothbad)"})
    votes = write_rows(tmp_path / "votes.jsonl", rows)
    with chat_server(prefers_good) as url:
        found = judge_models(endpoint_job(url, answers, votes=votes), tmp_path / "out")
    assert [(row["model"], row["wins"]) for row in found["ratings"]] == [("good", N), ("poor", 0)]
    assert "good won every comparison" in found["notes"][0]
    assert found["position_bias"]["consistent"]["value"] == 1.0
    assert found["position_bias"]["first_share"]["value"] == 0.5
    assert found["agreement"]["accuracy"]["value"] == pytest.approx((N - 2) / N)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == json.loads(json.dumps(found))
    assert open_artifact(tmp_path / "out", "judging").lineage["result"]["judge"] == f"j at {url}"
    verdicts = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert {row["winner"] for row in verdicts} == {"model_a"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers", "out", "votes.jsonl"]


def test_an_endpoint_that_fails_half_way_loses_no_verdict(
    answers: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parakit.inference.chat_models.openai.time", SimpleNamespace(sleep=lambda _: None))
    state = {"left": 18, "n": 0}  # requests that succeed: the first 8 pairs and a part of the others

    def answer(path: str, body: Any, headers: Any) -> Any:
        state["left"] -= 1
        state["n"] += 1
        return prefers_good(path, body, headers) if state["left"] >= 0 else (500, "down")

    with chat_server(answer) as url:
        job = endpoint_job(url, answers)
        with pytest.raises(UserError, match="HTTP 500 after 5 attempts: down"):
            judge_models(job, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        kept = next((tmp_path / ".out.work").glob("verdicts-*.jsonl"))
        assert len(kept.read_text().splitlines()) == 8
        state |= {"left": 1000, "n": 0}
        found = judge_models(job, tmp_path / "out")
    assert state["n"] == 2 * (N - 8)
    assert found["n_verdicts"] == N
    assert not (tmp_path / ".out.work").exists()


def test_an_endpoint_that_talks_nonsense_is_stopped_early(answers: tuple[str, str], tmp_path: Path) -> None:
    n_requests = []

    def answer(*_: Any) -> Any:
        n_requests.append(1)
        return completion("As a model, I like both answers.")

    with chat_server(answer) as url, pytest.raises(UserError, match="no verdict on 8 in a row"):
        judge_models(endpoint_job(url, answers), tmp_path / "out")
    assert len(n_requests) == 16


def test_pairs_without_a_verdict_are_counted(answers: tuple[str, str], tmp_path: Path) -> None:
    def answer(path: str, body: Any, headers: Any) -> Any:
        odd = int(re.findall(r"Question (\d+)", body["messages"][-1]["content"])[0]) % 4 == 0
        return completion("Hm.") if odd else prefers_good(path, body, headers)

    with chat_server(answer) as url:
        found = judge_models(endpoint_job(url, answers), tmp_path / "out")
    assert (found["n_verdicts"], found["n_unjudged"]) == (N - 3, 3)


def test_grades_are_a_benchmark_of_each_model(answers: tuple[str, str], tmp_path: Path) -> None:
    def answer(_: str, body: Any, __: Any) -> Any:
        return completion("5" if "\ngood" in body["messages"][-1]["content"] else "2.")

    votes = write_rows(tmp_path / "votes.jsonl", [{"id": i, "model": "good", "grade": 4} for i in range(N)])
    with chat_server(answer) as url:
        found = judge_models(endpoint_job(url, answers, kind="graded", votes=votes), tmp_path / "out")
    folders = [tmp_path / "out" / "evaluations" / name for name in ("good", "poor")]
    own = [json.loads((folder / "results.json").read_text()) for folder in folders]
    good, poor = (read_result(folder, "judge", one) for folder, one in zip(folders, own, strict=True))
    assert (good.scores["grade"].value, good.n, good.main) == (5.0, N, "grade")
    assert poor.scores["grade"].value == 2.0
    assert not good.protocol.differences(poor.protocol)
    assert main(["compare", *map(str, folders)]) == 1  # the second is worse
    open_artifact(tmp_path / "out", "judging")  # verifies every file
    assert found["agreement"]["accuracy"]["value"] == 0.0


def test_a_local_judge_gives_the_probabilities_of_the_letters(
    chat: Path, answers: tuple[str, str], tmp_path: Path
) -> None:
    found = judge_models(JudgeJob(str(chat), JudgeConfig(limit=3), answers=answers), tmp_path / "out")
    assert found["n_prompts"] == found["position_bias"]["n"] == 3
    row = json.loads((tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()[0])
    for scores in row["scores"]:
        assert sum(scores) == pytest.approx(1.0)
    forward, swapped = row["scores"]
    assert row["preference"] == pytest.approx((forward[0] + forward[2] / 2 + swapped[1] + swapped[2] / 2) / 2)
    again = judge_models(JudgeJob(str(chat), JudgeConfig(limit=3), answers=answers), tmp_path / "again")
    assert again == found


def test_models_answer_the_prompts_and_the_page_shows_text_as_text(
    chat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = chat_model_folder(tmp_path / "other", 1024, seed=1)
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": f"<script>{i}</script>"} for i in range(3)])
    line = ["--models", str(chat), str(other), "--prompts", prompts, "--judge", str(chat), "--device", "cpu"]
    line += ["--max-new-tokens", "4", "--output", str(tmp_path / "out")]
    assert main(["judge", *line]) == 0
    shown = capsys.readouterr().out
    assert "Position bias" in shown
    assert "No votes were given" in shown
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;0" in page
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["models"] == {"chat": str(chat), "other": str(other)}


def test_a_reward_model_has_no_position_bias(answers: tuple[str, str], tmp_path: Path) -> None:
    _, tokenizer = tiny_chat_model()
    torch.manual_seed(0)
    model = RewardModel(
        DecoderConfig(
            vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=16
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.reward_head.weight.normal_()
    save_model(model, tokenizer, tmp_path / "reward", Lineage("model", {}))
    job = JudgeJob(str(tmp_path / "reward"), JudgeConfig(limit=2), answers=answers)
    found = judge_models(job, tmp_path / "out")
    assert found["position_bias"]["consistent"]["value"] == 1.0
    row = json.loads((tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()[0])
    rewards = []
    for text in (row["answer_a"], row["answer_b"]):
        ids = compile_chat(tokenizer, [Message("user", row["prompt"]), Message("assistant", text)]).token_ids
        with torch.no_grad():
            rewards.append(float(model(torch.tensor([ids]))[0]))
    assert row["preference"] == pytest.approx(1 / (1 + math.exp(rewards[1] - rewards[0])), abs=1e-4)
    with pytest.raises(UserError, match="gives no grades"):
        judge_models(JudgeJob(job.judge, JudgeConfig(kind="graded"), answers=answers), tmp_path / "grades")


def test_names_of_models_are_as_short_as_they_can_be() -> None:
    assert list(short_names(["/x/one", "/x/two.jsonl"])) == ["one", "two"]
    assert list(short_names(["/a/tuned", "/b/tuned"])) == ["a-tuned", "b-tuned"]
    assert next(iter(short_names(["http://localhost:80/v1", "m"]))) == "localhost-80-v1"
    with pytest.raises(UserError, match="named twice"):
        short_names(["a", "a"])


Bad = Callable[[Path, tuple[str, str], Path], list[str]]
BAD: dict[str, tuple[Bad, str]] = {
    "one model": (lambda chat, a, t: ["--answers", a[0], "--judge", str(chat)], "pairwise judging needs 2"),
    "nobody": (lambda chat, a, t: ["--judge", str(chat)], "name either --models"),
    "both": (lambda chat, a, t: ["--answers", *a, "--models", "x", "--judge", str(chat)], "name either"),
    "no prompts": (lambda chat, a, t: ["--models", "x", "y", "--judge", str(chat)], "nothing to answer"),
    "missing prompts": (
        lambda chat, a, t: ["--models", str(chat), "--prompts", str(t / "no.jsonl"), "--kind", "graded", "--judge", str(chat)],
        "no.jsonl",
    ),
    "a vote on another": (
        lambda chat, a, t: [
            "--answers", *a, "--judge", str(chat), "--votes",
            write_rows(t / "v.jsonl", [{"id": 1, "model_a": "god", "model_b": "poor", "winner": "tie"}]),
        ],
        "did you mean 'good'",
    ),
    "votes on other prompts": (
        lambda chat, a, t: [
            "--answers", *a, "--judge", str(chat), "--votes",
            write_rows(t / "v.jsonl", [{"id": 99, "model_a": "good", "model_b": "poor", "winner": "tie"}]),
        ],
        "no vote is about any",
    ),
    "an impossible grade": (
        lambda chat, a, t: [
            "--answers", *a, "--kind", "graded", "--judge", str(chat), "--votes",
            write_rows(t / "v.jsonl", [{"id": 1, "model": "good", "grade": 7}]),
        ],
        "not a number from 1 to 5",
    ),
    "answers to other prompts": (
        lambda chat, a, t: [
            "--answers", *a, "--judge", str(chat), "--prompts", write_rows(t / "p.jsonl", [{"prompt": "x"}]),
        ],
        "answers none of the 1 prompts",
    ),
    "one id for two prompts": (
        lambda chat, a, t: [
            "--answers", a[0], write_rows(t / "o.jsonl", [{"id": 1, "prompt": "x", "answer": "y"}]),
            "--judge", str(chat),
        ],
        "is another one than in the answers before",
    ),
    "a name without a URL": (
        lambda chat, a, t: ["--answers", *a, "--judge", str(chat), "--judge-model", "j"],
        "give the URL with --judge",
    ),
    "a length of finished answers": (
        lambda chat, a, t: ["--answers", *a, "--judge", str(chat), "--max-new-tokens", "3"],
        "these are finished",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_nothing_is_written(
    name: str, chat: Path, answers: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, message = BAD[name]
    line = [*flags(chat, answers, tmp_path), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["judge", *line]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_judge_without_a_chat_template(chat: Path, answers: tuple[str, str], tmp_path: Path) -> None:
    model, tokenizer = tiny_chat_model()
    save_model(model, tokenizer, tmp_path / "base", Lineage("model", {}))
    for file in ("chat_template.jinja", "tokenizer_config.json", "lineage.json", "manifest.json"):
        (tmp_path / "base" / file).unlink(missing_ok=True)
    with pytest.raises(UserError, match="has no chat template") as caught:
        judge_models(JudgeJob(str(tmp_path / "base"), JudgeConfig(), answers=answers), tmp_path / "out")
    assert "chat-tuned" in caught.value.hint


def test_the_folder_is_shown(
    answers: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chat_server(prefers_good) as url:
        judge_models(endpoint_job(url, answers, limit=2), tmp_path / "out")
    assert main(["show", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["figures"]["models"][0] | {"model": "good", "won": 2} == found["figures"]["models"][0]
