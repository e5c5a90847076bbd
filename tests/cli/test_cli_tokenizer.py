"""`parakit tokenizer train|encode|compare`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from parakit.cli.tokenizer import main
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.tokens import Tokenizer


@pytest.fixture
def trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "text.txt").write_text("the cat sat on the mat and said hello. " * 60, encoding="utf-8")
    output = tmp_path / "tokenizer"
    assert main(["train", str(tmp_path / "text.txt"), "--output", str(output), "--vocab-size", "300"]) == 0
    assert "byte_bpe tokenizer" in capsys.readouterr().out
    return output


def test_train_writes_an_artifact_that_loads(trained: Path) -> None:
    artifact = open_artifact(trained, "tokenizer")
    assert artifact.lineage["config"]["vocab_size"] == 300
    assert Tokenizer.load(trained).vocab_size <= 300


def test_train_reads_a_corpus_and_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from parakit.data import TextConfig, prepare_corpus

    texts = "\n".join(
        json.dumps({"text": f"number {i} is said in words, and so on: " * 5}) for i in range(80)
    )
    (tmp_path / "text.jsonl").write_text(texts, encoding="utf-8")
    corpus = prepare_corpus(TextConfig(paths=(str(tmp_path / "text.jsonl"),)), tmp_path / "corpus")
    output = str(tmp_path / "tokenizer")
    assert main(["train", str(corpus), "--output", output, "--kind", "char", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "char"
    assert open_artifact(output).lineage["parents"][0]["kind"] == "corpus"


def test_encode_prints_ids(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["encode", str(trained), "hello <|end|>", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["token_ids"] == Tokenizer.load(trained).encode("hello <|end|>")
    assert len(shown["tokens"]) == len(shown["token_ids"])
    monkeypatch.setattr("sys.stdin", io.StringIO("the mat"))
    assert main(["encode", str(trained)]) == 0
    assert "2 words" in capsys.readouterr().out


def test_compare_puts_tokenizers_side_by_side(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(trained), str(trained), "--text", "the cat", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["name"] == str(trained)
    assert rows[0]["tokens_per_word"] > 0
    assert main(["compare", str(trained), "--text", "the [bold]cat\n"]) == 0
    assert "[bold]" in capsys.readouterr().out


def test_mistakes_are_told(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'train'"):
        main(["trian"])
    with pytest.raises(UserError, match="no training text given"):
        main(["train", "--output", str(tmp_path / "x")])
    with pytest.raises(UserError, match="exists already"):
        main(["train", str(tmp_path / "text.txt"), "--output", str(trained)])
    with pytest.raises(UserError, match="no such folder"):
        main(["encode", str(tmp_path / "absent"), "a"])
    assert main(["--help"]) == 0
