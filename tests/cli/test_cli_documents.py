"""`parakit index`, `parakit ask` and `parakit chat --documents`: indexed, found, answered, kept up to date."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from parakit.cli.main import main


def output(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main([str(word) for word in argv]) == 0
    return capsys.readouterr().out


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "port.md").write_text("# Port\n\nThe server listens on port 8080.\n")
    (folder / "tea.md").write_text("# Tea\n\nGreen tea is brewed at eighty degrees.\n")
    return folder


@pytest.fixture
def index(docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    made = output(capsys, "index", docs, "--output", tmp_path / "index", "--encoder", "none")
    assert "2 passages of 2 files (2 added)" in made
    return tmp_path / "index"


def test_an_index_is_searched_and_brought_up_to_date(docs, index, capsys):
    shown = output(capsys, "index", "search", index, "green tea")
    assert shown.startswith("[1] docs/tea.md, Tea (score 0.01639; words ")
    (docs / "tea.md").write_text("# Tea\n\nMint tea.\n")
    report = json.loads(output(capsys, "index", "--output", index, "--json"))
    assert report["files"]["changed"] == 1
    found = json.loads(output(capsys, "index", "search", index, "mint", "--json"))
    assert [one["source"] for one in found["passages"]] == ["docs/tea.md"]
    assert output(capsys, "index", "search", index, "zebra") == "nothing found\n"


def test_an_index_is_shown(index, capsys):
    shown = json.loads(output(capsys, "show", index, "--json"))
    assert shown["what"] == "an index of 2 passages"
    assert shown["figures"]["index"] == {"files": 2, "passages": 2, "vectors": "none"}
    assert shown["intact"]
    assert "docs/port.md, Port" in shown["samples"]["first passages"][0]


def test_a_question_is_answered_with_what_went_in(index, published_wide, capsys):
    shown = output(capsys, "ask", published_wide, index, "Which port?", "--max-new-tokens", "4", "--json")
    answer = json.loads(shown)
    assert [one["source"] for one in answer["passages"]] == ["docs/port.md"]
    assert answer["context"]["n_tokens"] <= answer["context"]["budget"] == 4096 - 4
    assert main(["ask", str(published_wide), str(index), "zebra?", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "The documents do not say.\n"
    assert "refused by: nothing found" in printed.err


def test_a_chat_answers_from_documents_and_keeps_its_history_without_them(
    index, published_wide, capsys, monkeypatch, tmp_path
):
    lines = f"Which port?\nWhich zebra eats grass loudly?\n/save {tmp_path / 'chat.jsonl'}\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    argv = (
        "chat",
        published_wide,
        "--documents",
        index,
        "--max-new-tokens",
        "4",
        "--json",
        "--device",
        "cpu",
    )
    first, second = map(json.loads, output(capsys, *argv).splitlines())
    assert [one["source"] for one in first["documents"]["passages"]] == ["docs/port.md"]
    assert second["documents"]["refused"] == "nothing found"
    assert second["text"] == "The documents do not say."
    saved = json.loads((tmp_path / "chat.jsonl").read_text())["messages"]
    assert [one["content"] for one in saved if one["role"] == "user"] == [
        "Which port?",
        "Which zebra eats grass loudly?",
    ]


def test_what_is_wrong_is_named(docs, index, published_decoder, capsys, tmp_path):
    for argv, words in (
        (["index", docs], "no index was named"),
        (["index", docs, "--output", docs], "is no|not a Parakit artifact|not a"),
        (["index", "search", docs, "tea"], "not a Parakit artifact"),
        (["index", docs / "prot.md", "--output", tmp_path / "x"], "did you mean"),
        (["ask", published_decoder, index, "Which port?", "--max-new-tokens", "4"], "tokens"),
        (["index", "eval", index], "no question"),
    ):
        assert main([str(word) for word in argv]) == 2
        error = capsys.readouterr().err
        assert any(part in error for part in words.split("|")), error


def test_a_question_longer_than_a_file_name_may_be_is_a_question():
    from parakit.cli.ask import AskCommandConfig, _index_and_questions

    question = "What is " + "very " * 100 + "long?"
    command = AskCommandConfig(model="builds/none", index="folder", questions=(question,))
    assert _index_and_questions(command) == ("folder", (question,))
    swapped = AskCommandConfig(model="builds/none", index=question, questions=("second?",))
    assert _index_and_questions(swapped) == (question, ("second?",))
