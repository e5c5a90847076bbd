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
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.shards import write_shards
from parakit.tokens.tokenizer_training import train_tokenizer
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
    assert "".join(t["text"] for t in shown[0] if t["counted"]) == "".join(f"{a}<|end|>" for a in answers)
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
