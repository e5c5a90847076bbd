"""Mistakes that show in no batch: leaks between the splits of a corpus, a file that drowns the others, lines that repeat."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.cli.text import main as text_command
from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.files import read_json
from parakit.data import corpus as corpus_module
from parakit.data.config import TextConfig
from parakit.data.corpus import prepare_corpus
from parakit.data.split_assignment import SplitAssignment
from parakit.data.splits import split_of
from parakit.stages.data import make_shards
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.doctor import raise_first_failure
from parakit.training.doctor.corpus import check_corpus
from tests.contracts.training_cases import TrainingCase, make_case

WORDS = [
    "lamp",
    "map",
    "apple",
    "coat",
    "drum",
    "bread",
    "river",
    "stone",
    "window",
    "letter",
    "garden",
    "music",
]


def prose(seed: int, n: int = 12) -> str:
    draw = random.Random(seed)
    return "\n".join(
        f"{draw.choice(WORDS).title()} {draw.randrange(10**6):x} was near the {' '.join(draw.choices(WORDS, k=7))}."
        for _ in range(n)
    )


def log_lines(n: int) -> str:
    draw = random.Random(0)
    events = [f"INFO service-{WORDS[k]} request handled without errors" for k in range(6)]
    return "\n".join(f"2026-01-{k % 28:02} 12:{k % 60:02} {draw.choice(events)} in {k} ms" for k in range(n))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(100):
        (folder / f"{k:03}.txt").write_text(prose(k))
    return folder


@pytest.fixture
def case_of(folder: Path, tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., TrainingCase]:
    """A training run on the corpus of the folder, as `parakit build` and `parakit pretrain` make it."""

    def make(**settings: object) -> TrainingCase:
        corpus = prepare_corpus(
            TextConfig.parse({"paths": [str(folder)]} | settings), tmp_path / "corpus", overwrite=True
        )
        with writing_artifact(tmp_path / "tokenizer", Lineage("tokenizer", {}), True) as target:
            tokenizer.save(target)
        make_shards(corpus, tmp_path / "tokenizer", tmp_path / "shards", overwrite=True)
        return make_case(tokenizer, "next_token").replace(
            shards=TokenShards.open(tmp_path / "shards", "train")
        )

    return make


def test_a_healthy_corpus_raises_no_alarm(case_of: Callable[..., TrainingCase], tmp_path: Path) -> None:
    assert case_of().failures() == []
    assert all(result.passed for result in check_corpus(read_json(tmp_path / "corpus" / "report.json")))


@pytest.mark.catches("held-out-in-training")
def test_a_file_whose_pieces_are_in_every_split(
    case_of: Callable[..., TrainingCase], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "big.txt").write_text(prose(1_000, 300))

    def by_piece(units: list, *fractions: float) -> SplitAssignment:
        return SplitAssignment("text", [None if unit.n_pieces > 9 else "train" for unit in units])

    monkeypatch.setattr(corpus_module, "assign_splits", by_piece)
    assert case_of(max_document_chars=500).first_failure() == "held-out-in-training"


@pytest.mark.catches("held-out-in-training")
def test_two_versions_of_a_text_in_two_splits(
    case_of: Callable[..., TrainingCase], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(3):
        (folder / f"{k} revised.txt").write_text(prose(k) + "\nOne more paragraph.")

    def apart(units: list, *fractions: float) -> SplitAssignment:
        splits = [split_of(unit.digest, *fractions) for unit in units]
        versions = [i for i, unit in enumerate(units) if unit.group != i]
        return SplitAssignment("text", ["test" if i in versions else split for i, split in enumerate(splits)])

    monkeypatch.setattr(corpus_module, "assign_splits", apart)
    assert case_of().first_failure() == "held-out-in-training"


@pytest.mark.catches("source-dominates", "repeated-lines")
def test_a_log_that_drowns_the_other_files(
    case_of: Callable[..., TrainingCase], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "service.log").write_text(log_lines(6_000))
    assert text_command([str(folder), "--output", str(tmp_path / "by-command")]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "warning: source-dominates: in/service.log has" in printed
    assert "warning: repeated-lines:" in printed
    assert "max_source_share" in printed
    case = case_of()
    failed = {result.name: result for result in case.results() if not result.passed}
    assert set(failed) == {"source-dominates", "repeated-lines"}
    assert "of the training tokens" in failed["source-dominates"].detail
    raise_first_failure(list(failed.values()))  # warnings stop no run


@pytest.mark.parametrize("way_out", [{"max_source_share": 0.25}, {"exclude": ["*.log"]}])
def test_what_the_warnings_say_to_do_helps(
    way_out: dict, case_of: Callable[..., TrainingCase], folder: Path
) -> None:
    (folder / "service.log").write_text(log_lines(6_000))
    assert "source-dominates" not in case_of(**way_out).failures()


@pytest.mark.catches("few-held-out-texts")
@pytest.mark.parametrize("n_files", [1, 3, 12])
def test_a_validation_split_of_few_texts(
    n_files: int, case_of: Callable[..., TrainingCase], folder: Path
) -> None:
    for k in range(100):
        (folder / f"{k:03}.txt").unlink()
    for k in range(n_files):
        (folder / f"{k}.txt").write_text(prose(k, 200))
    assert case_of().failures() == ["few-held-out-texts"]


def test_more_held_out_files_end_the_warning(case_of: Callable[..., TrainingCase], folder: Path) -> None:
    for k in range(20, 100):
        (folder / f"{k:03}.txt").unlink()
    assert case_of().failures() == ["few-held-out-texts"]
    assert case_of(validation_fraction=0.3).failures() == []
