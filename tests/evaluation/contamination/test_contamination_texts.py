"""What a model was trained on, by its lineage: found through all parents, decoded where the text is gone, or said to be
unknown; named files and folders are read whole.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.data.config import TextConfig
from parakit.data.conversations.sets import prepare_conversations
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.evaluation.contamination.texts import TrainingTexts, gather_texts, named_text, training_texts
from parakit.tokens import Tokenizer
from parakit.tokens.shards import write_shards


def artifact(path: Path, kind: str, parents: list[Path], **config: object) -> Path:
    with writing_artifact(path, Lineage(kind, config, list(parents))) as folder:
        (folder / "weights").write_text(path.name)
    return path


@pytest.fixture
def build(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A chat model with all that it was made from."""
    place = tmp_path / "build"
    place.mkdir()
    rows = "".join(
        json.dumps({"text": f"The number {i} is written on the door of house {i}."}) + "\n" for i in range(40)
    )
    (tmp_path / "rows.jsonl").write_text(rows)
    corpus = prepare_corpus(TextConfig(paths=(str(tmp_path / "rows.jsonl"),)), place / "corpus")
    with writing_artifact(place / "tokenizer", Lineage("tokenizer", {}, [corpus])) as folder:
        tokenizer.save(folder)
    made = [corpus, place / "tokenizer"]
    shards = write_shards({"train": iter_corpus(corpus, "train")}, tokenizer, place / "shards", made)
    base = artifact(place / "pretrain", "model", [shards, place / "tokenizer"], stage="pretrain")
    chat = [{"role": "user", "content": "What is {i}?"}, {"role": "assistant", "content": "A number."}]
    lines = [json.dumps({"messages": chat}).replace("{i}", str(i)) + "\n" for i in range(30)]
    (tmp_path / "chats.jsonl").write_text("".join(lines))
    chats = prepare_conversations([str(tmp_path / "chats.jsonl")], place / "conversations")
    chat_shards = artifact(place / "conversation_shards", "shards", [chats, place / "tokenizer"])
    artifact(place / "finetune", "model", [base, chat_shards], stage="finetune")
    return place


def contents(found: TrainingTexts) -> dict[str, list[str]]:
    return {Path(text.path).name: [document.text for document in text.documents()] for text in found.texts}


def test_the_lineage_leads_to_every_text_through_all_parents(build: Path) -> None:
    found = training_texts(build / "finetune")
    assert {Path(text.path).name: text.kind for text in found.texts} == {
        "corpus": "corpus",
        "conversations": "conversations",
    }
    assert not found.unknown
    texts = contents(found)
    assert texts["corpus"] == [document.text for document in iter_corpus(build / "corpus", "train")]
    assert all(text.endswith("?\nA number.") for text in texts["conversations"])


def test_a_build_that_moved_is_found_and_shards_stand_in_for_a_lost_corpus(build: Path) -> None:
    moved = build.rename(build.with_name("moved"))
    shutil.rmtree(moved / "corpus")
    found = training_texts(moved / "pretrain")
    assert [(text.kind, Path(text.path).name) for text in found.texts] == [("shards", "shards")]
    assert not found.unknown
    assert all(text.startswith("The number ") for text in contents(found)["shards"])


def test_what_vanished_and_what_is_another_text_now_is_said(build: Path) -> None:
    shutil.rmtree(build / "conversations")
    artifact(build / "conversations", "conversations", [])
    shutil.rmtree(build / "conversation_shards")
    found = training_texts(build / "finetune")
    assert [Path(text.path).name for text in found.texts] == ["corpus"]
    (unknown,) = found.unknown
    assert unknown.startswith("shards ")
    assert unknown.endswith("no longer there")
    artifact(build / "conversation_shards", "shards", [])
    (unknown,) = training_texts(build / "finetune").unknown
    assert unknown.endswith("another one is there now")
    with open(build / "corpus" / "train.jsonl", "a") as file:
        file.write("\n")
    with pytest.raises(CorruptArtifact, match=r"train\.jsonl"):
        contents(training_texts(build / "finetune"))


def test_a_published_model_is_unknown_and_so_are_prompts_that_are_no_artifact(
    build: Path, model_folder: Path
) -> None:
    assert training_texts(model_folder) == TrainingTexts([], ["its lineage names no text"])
    (build / "other").mkdir()
    assert "published model" in training_texts(build / "other").unknown[0]
    imported = artifact(build / "start", "model", [], stage="import")
    tuned = artifact(
        build / "tuned", "model", [build / "finetune", imported], stage="align", objective="grpo"
    )
    unknown = training_texts(tuned).unknown
    assert [("published" in one, "prompts" in one) for one in unknown] in (
        [(False, True), (True, False)],
        [(True, False), (False, True)],
    )


def test_named_texts_are_files_folders_artifacts_and_models_each_once(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "a.txt").write_text("One page of text.")
    (folder / "exam.jsonl").write_text(
        json.dumps({"question": "Who?", "choices": ["Anna", "Tom"], "gold": 1}) + "\n"
    )
    assert contents(named_text(folder)) == {"web": ["Who?\nAnna\nTom", "One page of text."]}
    assert contents(named_text(folder / "exam.jsonl")) == {"exam.jsonl": ["Who?\nAnna\nTom"]}
    found = gather_texts(build / "finetune", ["lineage", str(build / "corpus"), str(folder), str(folder)])
    assert sorted(Path(text.path).name for text in found.texts) == ["conversations", "corpus", "web"]
    with pytest.raises(UserError, match="no such file"):
        named_text(tmp_path / "nothing")
    with pytest.raises(UserError, match="tokenizer, which is no text"):
        named_text(build / "tokenizer")
