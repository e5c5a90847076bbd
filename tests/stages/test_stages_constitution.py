"""Constitutional training from end to end on a tiny model, with a scripted critic behind a real address."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parakit.alignment.config import ConstitutionConfig
from parakit.checkpoints.loading import load_model
from parakit.cli.main import main
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.data.conversations.sets import prepare_conversations
from parakit.stages import constitution as constitution_job
from parakit.stages.alignment import AlignJob
from parakit.stages.constitution import constitution
from tests.alignment.chat_server import Answer, chat_server, completion
from tests.alignment.tiny_chat_model import chat_model_folder

N_ASKED = 2 * (len(constitution_job.HOSTILE) + constitution_job.N_HARMLESS)
REFUSAL = "I can't help with that. Stealing is wrong."
TINY: dict[str, Any] = {
    "max_steps": 2,
    "compile": "off",
    "device": "cpu",
    "n_attacks": 2,
    "helpful_share": 0.5,
}
TINY |= {"seq_len": 128, "batch_tokens": 256}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and a folder of helpful conversations."""
    root = tmp_path_factory.mktemp("inputs")
    chats = root / "chats.jsonl"
    rows = [
        [{"role": "user", "content": f"Hello {i}"}, {"role": "assistant", "content": f"Hi {i}."}]
        for i in range(40)
    ]
    chats.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    data = prepare_conversations([str(chats)], root / "data", validation_fraction=0.2)
    return chat_model_folder(root / "model", 512), data


def critic(path: str, body: dict[str, Any], headers: Any) -> Answer:
    """Finds fault with everything under the first question about harm, and mends it."""
    messages = body["messages"]
    if len(messages) == 3:
        return completion(REFUSAL)
    faulty = "declined?" in messages[0]["content"] and REFUSAL not in messages[0]["content"]
    return completion("Yes. It is harmful." if faulty else "No.")


def job(inputs: tuple[Path, Path], work: Path, **settings: Any) -> AlignJob:
    config = ConstitutionConfig.parse(TINY | settings, "test")
    return AlignJob(inputs[0], inputs[1], work, config)


def test_revised_answers_are_learned_and_kept(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with chat_server(critic) as url:
        settings = {"critic": url, "critic_model": "c"}
        figures = constitution(job(inputs, tmp_path / "work", **settings), tmp_path / "out")
    n = N_ASKED
    assert figures["constitution"] == {
        "critic": f"c at {url}",
        "outcomes": {"revised": n, "good": 2 * n},
        "revised": n,
        "trained_on": n,
    }
    _, tokenizer = load_model(tmp_path / "out")
    assert tokenizer is not None
    kept = open_artifact(tmp_path / "out-constitution", "constitution")
    rows = [json.loads(line) for line in (kept.path / "revisions.jsonl").read_text().splitlines()]
    assert {row["final"] for row in rows} == {REFUSAL}
    assert all(row["messages"][-1]["role"] in ("user", "tool") for row in rows)
    assert (kept.path / "principles.yaml").is_file()
    assert not (tmp_path / "work").exists()


def test_what_was_done_is_not_done_again(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The critic goes away in the middle, comes back, and is asked for the rest alone."""
    monkeypatch.setattr("parakit.inference.chat_models.openai.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(constitution_job, "CHUNK_SIZE", 4)
    requests: list[str] = []

    def failing(path: str, body: dict[str, Any], headers: Any) -> Answer:
        requests.append(json.dumps(body["messages"]))
        return (503, "gone") if len(requests) > 70 and not back else critic(path, body, headers)

    back = False
    with chat_server(failing) as url:
        wanted = job(inputs, tmp_path / "work", critic=url, critic_model="c")
        with pytest.raises(UserError, match="HTTP 503 after 5 attempts: gone"):
            constitution(wanted, tmp_path / "out")
        kept = next((tmp_path / "work").glob("*/step-2-revisions.jsonl")).read_text().splitlines()
        assert 0 < len(kept) < N_ASKED
        back = True
        before = len(requests)
        monkeypatch.setattr(constitution_job.LocalChatModel, "generate", None)  # no answer is made again
        figures = constitution(wanted, tmp_path / "out")
    assert len(requests) - before == 7 * (
        N_ASKED - len(kept)
    )  # three critiques, a revision, three looks at it
    assert figures["constitution"]["revised"] == N_ASKED
    again = (tmp_path / "out-constitution" / "revisions.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in again][: len(kept)] == [
        json.loads(line)["id"] for line in kept
    ]


@pytest.mark.parametrize("reply", ["", "?!"])
def test_a_critic_with_mostly_invalid_critiques_stops_the_run(
    inputs: tuple[Path, Path], tmp_path: Path, reply: str
) -> None:
    with chat_server(lambda *_: completion(reply)) as url:
        wanted = job(inputs, tmp_path / "work", critic=url, critic_model="c", n_rounds=1)
        with pytest.raises(
            UserError, match=r"20 of 20 critiques by c at .* are invalid \(20 empty critique\)"
        ):
            constitution(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_critic_that_finds_nothing_leaves_nothing_to_learn(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    with chat_server(lambda *_: completion("No.")) as url:
        wanted = job(inputs, tmp_path / "work", critic=url, critic_model="c", n_rounds=1)
        with pytest.raises(UserError, match="no answer can be trained on: of 20 critiques 20 were good"):
            constitution(wanted, tmp_path / "out")


def test_lessons_first_and_the_model_as_its_own_critic(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """A tiny model learns no criticism in two steps; that it is asked, and found out, is what counts."""
    wanted = job(inputs, tmp_path / "work", n_critique_examples=40, n_rounds=1)
    with pytest.raises(UserError, match=r"critiques|no answer"):
        constitution(wanted, tmp_path / "out")
    taught = next((tmp_path / "work").glob("*/step-0-critique-tuned"))
    assert open_artifact(taught, "model").lineage["config"]["stage"] == "finetune"


def test_the_command_prefers_by_principle_after_revising(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def comparing(path: str, body: dict[str, Any], headers: Any) -> Answer:
        content = body["messages"][0]["content"]
        if "A or B?" not in content:
            return critic(path, body, headers)
        first, second = content.split('\nA: "')[1].split('\nB: "')
        return completion("A" if first < second.rpartition("\n")[0] else "B")

    with chat_server(comparing) as url:
        words = ["align", str(inputs[0]), "--method", "constitution", "--output", str(tmp_path / "out")]
        words += [
            "--prompts",
            str(inputs[1].with_name("chats.jsonl")),
            "--critic",
            url,
            "--critic-model",
            "c",
            "--n-attacks",
            "3",
        ]
        words += [
            "--n-preferences",
            "16",
            "--helpful-share",
            "0.5",
            "--seq-len",
            "128",
            "--max-steps",
            "2",
            "--batch-tokens",
            "256",
        ]
        assert main([*words, "--compile", "off", "--device", "cpu", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["method"] == "dpo"
    assert figures["constitution"]["preferences"]["preferred"] > 8
    kept = (tmp_path / "out-constitution" / "preferences.jsonl").read_text().splitlines()
    assert len(kept) == 16
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] != ".") == ["out", "out-constitution"]
