"""Conversations out of documents, written by a fake endpoint: where they go, what is refused, and that a run continues."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from parakit.cli.text import main as text_command
from parakit.common import UserError, open_artifact
from parakit.data import iter_conversations, iter_corpus
from parakit.data.config import TextConfig
from parakit.data.conversations.conversation import Conversation, read_conversations
from parakit.data.conversations.from_documents import DocumentQuestionsConfig
from parakit.data.corpus import prepare_corpus
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.chat_models.openai import OpenAIChatConfig, OpenAIChatModel
from parakit.stages.corpora.questions import QUESTIONS, make_document_questions
from tests.alignment.chat_server import Answer, chat_server, completion

NAMES = (
    "Aldermoor",
    "Brinkvale",
    "Corrigan",
    "Dunmere",
    "Eastwick",
    "Farrow",
    "Glenholt",
    "Harwell",
    "Inverloch",
    "Jarrow",
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for i in range(40):
        town = f"{NAMES[i % 10]}{'abcd'[i // 10]}"
        (folder / f"{i}.txt").write_text(
            f"The mayor of {town} is called Mister{i:02d} and keeps {i + 3} grey donkeys behind the old town hall.\n"
            f"Every summer the people of {town} walk to the river and sing until the lanterns burn down."
        )
    config = TextConfig(paths=(str(folder),), validation_fraction=0.15, test_fraction=0.15)
    return prepare_corpus(config, tmp_path / "corpus")


def answers(path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
    """Writes two good pairs, one invented, and one that is none."""
    passage = body["messages"][0]["content"].partition("Passage:\n")[2]
    town, name, n = re.search(r"mayor of (\w+) is called (\w+) and keeps (\d+)", passage).groups()  # type: ignore[union-attr]
    lines = [
        f"Q: What is the mayor of {town} called?\nA: {name}",
        f"Q: How many donkeys does the mayor in {town} keep behind the hall?\nA: {n} grey donkeys",
        f"Q: Who founded {town} long ago?\nA: Charlemagne",
        "That is all.",
    ]
    return completion("\n\n".join(lines))


def everything(folder: Path) -> dict[str, list[Conversation]]:
    found = {split: list(iter_conversations(folder, split)) for split in ("train", "validation")}
    return found | {"test": list(read_conversations(folder / "test.jsonl"))}


def test_pairs_of_held_out_documents_are_in_test_only_and_refusals_have_no_answer(
    corpus: Path, tmp_path: Path
) -> None:
    with chat_server(answers) as url:
        config = DocumentQuestionsConfig(model=url, model_name="fake", refusal_share=0.3)
        made = make_document_questions(config, corpus, tmp_path / "set", seed=3)
    report = json.loads((made / "report.json").read_text())
    assert report["pairs"] == 40 * 3
    assert report["kept"] == 40 * 2
    assert report["rejected"] == {"the answer is not in the passage": 40, "no pair in the form": 40}
    texts = {
        split: [one.text for one in iter_corpus(corpus, split)] for split in ("train", "validation", "test")
    }
    held_out = texts["validation"] + texts["test"]
    n_refused = 0
    for split, rows in everything(made).items():
        for conversation in rows:
            question, answer = (message.content for message in conversation.messages)
            wanted = question.rpartition("Question: ")[2]
            town = re.search(r"mayor (?:of|in) (\w+) ", wanted)[1]  # type: ignore[index]
            (own,) = (text for text in held_out + texts["train"] if f"mayor of {town} " in text)
            assert (own in held_out) == (split == "test")
            if answer == config.refusal:
                n_refused += 1
                passage = question.partition("Passage:\n")[2].partition("\n\nQuestion:")[0]
                assert f"mayor of {town}" not in passage
                assert (passage in held_out) == (split == "test")
            else:
                assert answer in own
                assert "Passage:" not in question or own in question
    assert len(everything(made)["validation"]) > 0
    assert 10 <= n_refused <= 60
    assert n_refused == sum(report["refusals"].values())
    every = [json.loads(line) for line in (made / QUESTIONS).read_text().splitlines()]
    assert sum(row["rejected"] is None for row in every) == 80
    ids = {one.digest[:16] for split in texts for one in iter_corpus(corpus, split)}
    assert {row["document_id"] for row in every} == ids
    assert open_artifact(made).kind == "conversations"
    assert [path.name for path in tmp_path.glob(".set*")] == []


def test_rules_write_a_set_without_a_model_and_questions_tell_their_split(
    corpus: Path, tmp_path: Path
) -> None:
    config = DocumentQuestionsConfig(writer="rules", validation_fraction=0.3)
    made = make_document_questions(config, corpus, tmp_path / "set")
    rows = [json.loads(line) for line in (made / QUESTIONS).read_text().splitlines()]
    kept = [row for row in rows if row["rejected"] is None]
    assert {row["answer"] for row in kept} >= {str(i + 3) for i in range(10, 40)}
    report, found = json.loads((made / "report.json").read_text()), everything(made)
    for split, conversations in found.items():
        questions = {one.messages[0].content.rpartition("Question: ")[2] for one in conversations}
        assert questions == {row["question"] for row in kept if row["split"] == split}
        if split != "test":
            assert report["splits"][split] == len(conversations)
    assert all((row["split"] == "test") == (row["document_split"] != "train") for row in kept)
    other = tmp_path / "other"
    assert (make_document_questions(config, corpus, other) / QUESTIONS).read_bytes() == (
        made / QUESTIONS
    ).read_bytes()


def test_a_local_model_writes_and_what_it_babbles_is_left_out(
    corpus: Path, tmp_path: Path, published_decoder: Path
) -> None:
    chat_model = LocalChatModel.load(published_decoder)
    config = DocumentQuestionsConfig(template="Ask: {passage}", max_passages=2, max_new_tokens=4)
    with pytest.raises(UserError, match="no pair in the form"):
        make_document_questions(config, corpus, tmp_path / "set", model=chat_model)
    assert not (tmp_path / "set").exists()


def test_an_interrupted_run_continues_and_gives_the_same_set(corpus: Path, tmp_path: Path) -> None:
    n_requests = 0

    def dies(path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        nonlocal n_requests
        n_requests += 1
        return answers(path, body, headers) if n_requests <= 24 else (401, {"error": "no"})

    with chat_server(answers) as url:
        whole = make_document_questions(_config(url), corpus, tmp_path / "whole")
    with chat_server(dies) as url, pytest.raises(UserError, match="401"):
        make_document_questions(_config(url), corpus, tmp_path / "set", model=_model(url))
    assert not (tmp_path / "set").exists()
    n_before, n_requests = n_requests, -1000
    with chat_server(dies) as second:
        made = make_document_questions(_config(url), corpus, tmp_path / "set", model=_model(second))
    assert n_requests + 1000 <= 40 - 16 < n_before + 40
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl"):
        assert (made / name).read_bytes() == (whole / name).read_bytes()


def _config(url: str) -> DocumentQuestionsConfig:
    return DocumentQuestionsConfig(model=url, model_name="fake")


def _model(url: str) -> OpenAIChatModel:
    return OpenAIChatModel(OpenAIChatConfig(url=url, model="fake", max_attempts=1, max_concurrent=1))


def test_a_model_whose_pairs_all_fail_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    with (
        chat_server(lambda *_: completion("I cannot do that.")) as url,
        pytest.raises(
            UserError, match="none of 0 pairs about training documents is kept; no pair in the form"
        ),
    ):
        make_document_questions(_config(url), corpus, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_the_command_makes_a_set_from_files_or_from_a_corpus(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chat_server(answers) as url:
        for name, path in (("a", corpus), ("b", tmp_path / "docs")):
            argv = [
                str(path),
                "--questions-from",
                url,
                "--questions-model",
                "fake",
                "--output",
                str(tmp_path / name),
            ]
            assert text_command([*argv, "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["kept"] == 80
