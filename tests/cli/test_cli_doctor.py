"""`parakit doctor` on folders: healthy ones, ill ones, and what counts, token by token."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from parakit.checkpoints import save_model
from parakit.cli.doctor import main
from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import write_conversations
from parakit.data.preferences import prepare_preferences
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.shards import write_shards
from parakit.tokens.tokenizer.training import train_tokenizer
from tests.contracts.patients import CONVERSATIONS, DOCUMENTS, make_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model made from `plain`, and shards of conversations besides."""
    home = tmp_path_factory.mktemp("doctor")
    tokenizer = train_tokenizer((d.text for d in DOCUMENTS), TokenizerConfig(vocab_size=330))
    write_shards({"train": DOCUMENTS}, tokenizer, home / "plain")
    write_shards({"train": CONVERSATIONS}, tokenizer, home / "chats")
    save_model(
        make_model(tokenizer.vocab_size),
        tokenizer,
        home / "model",
        Lineage("model", parents=[home / "plain"]),
    )
    return home


@pytest.mark.parametrize("data", ["plain", "chats"])
def test_healthy_folders_pass(data: str, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folders / "model"), "--data", str(folders / data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"]
    assert len(told["findings"]) > 25
    assert "loss-on-prompt" in {finding["name"] for finding in told["findings"]}
    assert "shown" not in told


def test_without_data_the_shards_that_the_model_was_made_from_are_looked_at(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folders / "model")]) == 0
    assert "no fault" in capsys.readouterr().out


def test_what_counts_is_shown_token_by_token(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(folders / "model"), "--data", str(folders / "chats"), "--show", "--n-documents", "2"]
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["shown"]
    assert len(shown) == 2
    answers = [m.content for m in CONVERSATIONS[0].messages if m.role == "assistant"]
    assert "".join(t["text"] for t in shown[0] if t["counted"]) == "".join(f" {a}<|end|>" for a in answers)
    assert shown[0][0] == {"text": "<|bos|>", "counted": False, "control": True}
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "document 2" in out
    assert CONVERSATIONS[0].messages[-1].content.split()[0] in out


def test_an_ill_folder_gives_status_1_and_the_name_of_the_fault(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lineage = Lineage("shards")
    with writing_artifact(tmp_path / "ill", lineage) as folder:
        for path in (folders / "chats").iterdir():
            if path.name not in ("lineage.json", "manifest.json"):
                (folder / path.name).write_bytes(path.read_bytes())
        mask = folder / "train.loss_mask.bin"
        mask.write_bytes(np.ones(mask.stat().st_size, np.uint8).tobytes())
    command = [str(folders / "model"), "--data", str(tmp_path / "ill")]
    assert main([*command, "--json"]) == 1
    faults = [f for f in json.loads(capsys.readouterr().out)["findings"] if not f["passed"]]
    assert faults[0]["name"] == "loss-on-prompt"
    assert faults[0]["hint"]
    assert main(command) == 1
    assert "loss-on-prompt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["plain", "--data", "chats"], "not a model folder"),
        (["model", "--data", "model"], "shards"),
        (["model", "--data", "nowhere"], "no such folder"),
        (["model", "--data", "plain", "--split", "test"], "split 'test'"),
        (["model", "--data", "plain", "--seq-len", "4000"], "max_seq_len"),
    ],
)
def test_mistakes_are_errors_that_say_what_is_there(arguments: list[str], word: str, folders: Path) -> None:
    places = [str(folders / a) if a in ("plain", "chats", "model", "nowhere") else a for a in arguments]
    with pytest.raises(UserError, match=word):
        main(places)


PAIRS = [
    {"prompt": f"Where is {place}?", "chosen": f"{place} is here.", "rejected": "No."}
    for place in ("Ada", "Ben", "Cy")
]


def test_of_preferences_it_is_shown_what_is_chosen_and_rejected_behind_the_seam(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, three = tmp_path / "pairs.jsonl", {"prompt": "And?", "ranking": ["Good.", "So so.", "Bad."]}
    same = {"prompt": "Same?", "chosen": "a", "rejected": "a"}
    pairs.write_text("".join(json.dumps(row) + "\n" for row in [*PAIRS, three, same]))
    command = [str(folders / "model"), "--data", str(pairs), "--show", "--n-documents", "4"]
    assert main([*command, "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert "1 left out: the answers are the same (pairs.jsonl, row 5)" in said.err
    assert {"seam-differs", "reference-differs"} <= {finding["name"] for finding in told["findings"]}
    first, last = told["shown"][0], told["shown"][3]
    assert "".join(t["text"] for t in first["prompt"]) == "<|bos|><|user|> Where is Ada?<|end|><|assistant|>"
    assert not any(t["counted"] for t in first["prompt"])
    texts = {name: "".join(t["text"] for t in tokens) for name, tokens in first["completions"].items()}
    assert texts == {"chosen": " Ada is here.<|end|>", "rejected": " No.<|end|>"}
    assert all(t["counted"] for tokens in first["completions"].values() for t in tokens)
    assert list(last["completions"]) == ["place 1 of 3", "place 2 of 3", "place 3 of 3"]
    assert main(command) == 0
    assert "‖ Ada is here." in capsys.readouterr().out


@pytest.mark.parametrize("method", ["reward", "dpo"])
def test_a_folder_of_preferences_is_examined_as_its_learner_reads_it(
    method: str, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(
            json.dumps(row | {"prompt": f"{row['prompt']} {i}"}) + "\n" for i in range(9) for row in PAIRS
        )
    )
    prepare_preferences([str(pairs)], tmp_path / "set")
    command = [str(folders / "model"), "--data", str(tmp_path / "set"), "--method", method, "--json"]
    assert main(command) == 0
    names = {finding["name"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert ("reference-differs" in names) == (method == "dpo")
    assert "prefers-the-worse" in names


def test_conversations_need_no_shards_and_prompts_are_shown_as_they_are_asked(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chats = tmp_path / "chats.jsonl"
    write_conversations(chats, CONVERSATIONS)
    command = [str(folders / "model"), "--data", str(chats), "--show", "--json"]
    assert main(command) == 0
    shown = json.loads(capsys.readouterr().out)["shown"]
    answers = [m.content for m in CONVERSATIONS[0].messages if m.role == "assistant"]
    assert "".join(t["text"] for t in shown[0] if t["counted"]) == "".join(f" {a}<|end|>" for a in answers)
    few = tmp_path / "few.jsonl"
    write_conversations(few, CONVERSATIONS[:2])  # too few for a healthy verdict, and shown all the same
    main([str(folders / "model"), "--data", str(few), "--show", "--json"])
    assert len(json.loads(capsys.readouterr().out)["shown"]) == 2
    assert main([*command, "--method", "grpo"]) == 0
    said = capsys.readouterr()
    prompt = json.loads(said.out)["shown"][0]
    assert "".join(t["text"] for t in prompt["prompt"]).endswith("<|end|><|assistant|>")
    assert prompt["answer"] == answers[-1]
    assert "with a right answer behind" in said.err
    for method, data, told in (
        ("dpo", chats, "learns from no conversations"),
        ("grpo", folders / "chats", "learns from no shards"),
        ("ppo", tmp_path / "pairs.jsonl", "learns from prompts"),
    ):
        (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIRS[0]) + "\n")
        with pytest.raises(UserError, match=told):
            main([str(folders / "model"), "--data", str(data), "--method", method])
