"""`parakit doctor` on folders: healthy ones, broken ones, and the tokens that count."""

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
from parakit.tokens.shards import TokenShards, write_shards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.training import train_tokenizer
from tests.contracts.training_cases import CONVERSATIONS, DOCUMENTS, make_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on `plain`, and shards of conversations."""
    root = tmp_path_factory.mktemp("doctor")
    tokenizer = train_tokenizer((d.text for d in DOCUMENTS), TokenizerConfig(vocab_size=330))
    write_shards({"train": DOCUMENTS}, tokenizer, root / "plain")
    write_shards({"train": CONVERSATIONS}, tokenizer, root / "chats")
    save_model(
        make_model(tokenizer.vocab_size),
        tokenizer,
        root / "model",
        Lineage("model", parents=[root / "plain"]),
    )
    return root


@pytest.mark.parametrize("data", ["plain", "chats"])
def test_healthy_folders_pass(data: str, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folders / "model"), "--data", str(folders / data), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["healthy"]
    assert len(printed["checks"]) > 25
    names = {result["name"] for result in printed["checks"]}
    assert "uncounted-targets" in names
    assert ("loss-on-prompt" in names) == (data == "chats")
    assert "shown" not in printed


def test_without_data_the_shards_of_the_models_lineage_are_checked(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folders / "model")]) == 0
    assert "none failed" in capsys.readouterr().out


def test_a_small_split_is_read_in_fewer_rows_and_too_long_rows_say_what_fits(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = Tokenizer.load(folders / "model")
    shards = TokenShards.open(write_shards({"train": DOCUMENTS[:1]}, tokenizer, tmp_path / "few"), "train")
    command = [str(folders / "model"), "--data", str(tmp_path / "few"), "--seq-len"]
    assert 8 <= shards.n_tokens <= 96, "fits into the model's window"
    assert main([*command, str(shards.n_tokens // 2 - 1)]) == 0
    assert "none failed" in capsys.readouterr().out
    with pytest.raises(UserError, match="pass --seq-len") as refused:
        main([*command, str(shards.n_tokens)])
    assert main([*command, refused.value.hint.split()[2].strip(",")]) == 0


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


def test_a_broken_folder_gives_status_1_and_the_name_of_the_failed_check(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lineage = Lineage("shards")
    with writing_artifact(tmp_path / "broken", lineage) as folder:
        for path in (folders / "chats").iterdir():
            if path.name not in ("lineage.json", "manifest.json"):
                (folder / path.name).write_bytes(path.read_bytes())
        mask = folder / "train.loss_mask.bin"
        mask.write_bytes(np.ones(mask.stat().st_size, np.uint8).tobytes())
    command = [str(folders / "model"), "--data", str(tmp_path / "broken")]
    assert main([*command, "--json"]) == 1
    faults = [f for f in json.loads(capsys.readouterr().out)["checks"] if not f["passed"]]
    assert faults[0]["name"] == "loss-on-prompt"
    assert faults[0]["remedy"]
    assert faults[0]["prevents"]
    assert "belong to the prompt" in faults[0]["detail"]
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "loss-on-prompt" in out
    assert "The loss counts what the user" in out
    assert "Seen: " in out
    assert "To do: " in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["plain", "--data", "chats"], "not a model folder"),
        (["model", "--data", "model"], "shards"),
        (["model", "--data", "nowhere"], "no such folder"),
        (["model", "--data", "plain", "--split", "test"], "split 'test'"),
        (["model", "--data", "plain", "--seq-len", "4000"], "fewer than one row of 4,000"),
    ],
)
def test_wrong_arguments_are_errors_that_name_the_folder(
    arguments: list[str], word: str, folders: Path
) -> None:
    paths = [str(folders / a) if a in ("plain", "chats", "model", "nowhere") else a for a in arguments]
    with pytest.raises(UserError, match=word):
        main(paths)


PAIRS = [
    {"prompt": f"Where is {place}?", "chosen": f"{place} is here.", "rejected": "No."}
    for place in ("Ada", "Ben", "Cy")
]


def test_show_prints_the_completions_of_preferences_after_the_seam(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, three = tmp_path / "pairs.jsonl", {"prompt": "And?", "ranking": ["Good.", "So so.", "Bad."]}
    same = {"prompt": "Same?", "chosen": "a", "rejected": "a"}
    pairs.write_text("".join(json.dumps(row) + "\n" for row in [*PAIRS, three, same]))
    command = [str(folders / "model"), "--data", str(pairs), "--show", "--n-documents", "4"]
    assert main([*command, "--json"]) == 0
    printed_text = capsys.readouterr()
    printed = json.loads(printed_text.out)
    assert "1 left out: the answers are the same (pairs.jsonl, row 5)" in printed_text.err
    assert {"seam-differs", "reference-differs"} <= {result["name"] for result in printed["checks"]}
    first, last = printed["shown"][0], printed["shown"][3]
    assert "".join(t["text"] for t in first["prompt"]) == "<|bos|><|user|> Where is Ada?<|end|><|assistant|>"
    assert not any(t["counted"] for t in first["prompt"])
    texts = {name: "".join(t["text"] for t in tokens) for name, tokens in first["completions"].items()}
    assert texts == {"chosen": " Ada is here.<|end|>", "rejected": " No.<|end|>"}
    assert all(t["counted"] for tokens in first["completions"].values() for t in tokens)
    assert list(last["completions"]) == ["place 1 of 3", "place 2 of 3", "place 3 of 3"]
    assert main(command) == 0
    assert "‖ Ada is here." in capsys.readouterr().out


@pytest.mark.parametrize("method", ["reward", "dpo"])
def test_a_folder_of_preferences_is_checked_as_its_method_reads_it(
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
    names = {result["name"] for result in json.loads(capsys.readouterr().out)["checks"]}
    assert ("reference-differs" in names) == (method == "dpo")
    assert "preference-direction" in names


def test_conversations_need_no_shards_and_prompts_are_shown_as_they_are_sent(
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
    printed_text = capsys.readouterr()
    prompt = json.loads(printed_text.out)["shown"][0]
    assert "".join(t["text"] for t in prompt["prompt"]).endswith("<|end|><|assistant|>")
    assert prompt["answer"] == answers[-1]
    assert "with a reference answer" in printed_text.err
    for method, data, message in (
        ("dpo", chats, "does not train on conversations"),
        ("grpo", folders / "chats", "does not train on shards"),
        ("ppo", tmp_path / "pairs.jsonl", "trains on prompts"),
    ):
        (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIRS[0]) + "\n")
        with pytest.raises(UserError, match=message):
            main([str(folders / "model"), "--data", str(data), "--method", method])
