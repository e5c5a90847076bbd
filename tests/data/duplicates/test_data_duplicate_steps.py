"""The steps in a corpus: what they take away, what they count, and that every run gives the same bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.common.files import read_json
from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.data.splits import SPLITS
from tests.data.duplicates.planted import edited, random_words


def written(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def corpus_texts(path: Path) -> list[str]:
    return [document.text for split in SPLITS for document in iter_corpus(path, split)]


@pytest.fixture
def texts() -> list[str]:
    rng = random.Random(7)
    return [" ".join(random_words(rng, 120)) for _ in range(30)]


def test_each_step_takes_away_what_was_planted(tmp_path: Path, texts: list[str]) -> None:
    rng = random.Random(8)
    version = " ".join(edited(texts[3].split(), 0.1, rng))
    passage = " ".join(random_words(rng, 60))
    question = "how many ducks lay how many eggs a day when every second duck sleeps"
    dirty = [
        *texts,
        version,
        f"{passage}\n\n{' '.join(random_words(rng, 80))}",
        f"{passage}\n\n{' '.join(random_words(rng, 90))}",
        f"Exam: {question.upper()}?",
    ]
    suite = tmp_path / "exam.jsonl"
    suite.write_text(json.dumps({"question": question}) + "\n")
    config = TextConfig(
        paths=(str(written(tmp_path / "in", dirty)),),
        cleaning=(
            {"step": "near_duplicates"},  # type: ignore[arg-type]
            "repeated_passages",
            f"decontamination:suites={suite}",
        ),
    )
    out = prepare_corpus(config, tmp_path / "out")
    kept = corpus_texts(out)
    assert version not in kept
    assert sum(passage in text for text in kept) == 1
    assert not any("DUCKS" in text for text in kept)
    assert set(texts) <= set(kept)
    near, passages, leaks = (step["figures"] for step in read_json(out / "report.json")["cleaning"])
    assert near == {"documents_with_versions": 1, "most_versions": 2}
    assert passages == {"passages": 1, "words": 60}
    assert leaks["suites"]["exam"] == {
        "looked_for": "1 items, 0 more are too short",
        "documents": 1,
        "leaks": 1,
    }
    again = prepare_corpus(config, tmp_path / "again")
    assert all((out / f"{s}.jsonl").read_bytes() == (again / f"{s}.jsonl").read_bytes() for s in SPLITS)


def test_leaked_words_alone_can_be_taken_out(tmp_path: Path, texts: list[str]) -> None:
    question = "how many ducks lay how many eggs a day when every second duck sleeps"
    (tmp_path / "exam.txt").write_text(question)
    leak = f"İn «Exam» 1: {question.upper()}! And so on, {texts[0]}"
    config = TextConfig(
        paths=(str(written(tmp_path / "in", [*texts[1:], leak])),),
        cleaning=(f"decontamination:suites={tmp_path / 'exam.txt'}:remove=passage",),  # type: ignore[arg-type]
    )
    kept = corpus_texts(prepare_corpus(config, tmp_path / "out"))
    assert f"İn «Exam» 1: And so on, {texts[0]}" in kept


def test_decontamination_needs_suites(tmp_path: Path, texts: list[str]) -> None:
    paths = (str(written(tmp_path / "in", texts)),)
    (tmp_path / "short.txt").write_text("Paris")
    for suites, message in (("", "no suites"), (f":suites={tmp_path / 'short.txt'}", "long enough")):
        config = TextConfig(paths=paths, cleaning=(f"decontamination{suites}",))  # type: ignore[arg-type]
        with pytest.raises(UserError, match=message):
            prepare_corpus(config, tmp_path / "out")
        assert not (tmp_path / "out").exists()
