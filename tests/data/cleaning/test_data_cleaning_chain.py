"""The chain of cleaning steps: counts, samples, order, and corpora without steps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from parakit.common.errors import UserError
from parakit.data.cleaning.chain import CleaningChain
from parakit.data.cleaning.corpus_steps import CorpusStep
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed
from parakit.data.collected import read_rows, write_row
from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.data.documents import Document
from parakit.data.splits import SPLITS
from tests.data.test_data_corpus import text_of, write_files


class Shorten(StepConfig):
    step: Literal["shorten"] = "shorten"
    words: int = 2

    def build(self, folder: Path):
        def shorten(text: str) -> str | Removed:
            return Removed("has no words") if not text.strip() else " ".join(text.split()[: self.words])

        return shorten


class OnlyOnce(StepConfig):
    """Leaves out every document whose text another one has."""

    step: Literal["only_once"] = "only_once"

    def build(self, folder: Path):
        return Once({})


@dataclass
class Once:
    first: dict[str, int]
    finished: bool = False

    def add(self, index: int, text: str) -> None:
        self.first.setdefault(text, index)

    def finish(self) -> None:
        self.finished = True

    def apply(self, index: int, text: str) -> str | Removed:
        assert self.finished
        return text if self.first[text] == index else Removed("again")

    def figures(self) -> dict:
        return {"texts": len(self.first)}


def run(folder: Path, steps: list[StepConfig], texts: list[str], source: str = "a.txt") -> tuple[list, list]:
    rows = folder / "rows"
    with open(rows, "w", encoding="utf-8", newline="\n") as file:
        for n, text in enumerate(texts):
            write_row(file, n // 2, Document(text, f"{source}:{n}", len(text.encode())))
    chain = CleaningChain(steps, folder / "work")
    chain.run(rows)
    return list(read_rows(rows)), chain.report()


def test_steps_run_in_their_order_and_count_what_they_did(tmp_path: Path) -> None:
    texts = ["one two three", "one two four", "one", " ", "five six seven"]
    rows, report = run(tmp_path, [Shorten(), OnlyOnce(), Shorten(words=1)], texts)
    assert isinstance(Once({}), CorpusStep)
    assert [(index, d.text, d.steps) for index, d in rows] == [
        (0, "one", ("shorten",)),
        (1, "one", ()),
        (2, "five", ("shorten",)),
    ]
    assert [d.n_bytes for _, d in rows] == [3, 3, 4]
    first, once, last = report
    assert (first["n_changed"], first["n_left_out"], first["reasons"]) == (3, 1, {"has no words": 1})
    assert first["chars_removed"] == 6 + 5 + 1 + 6
    assert (once["n_left_out"], once["reasons"], once["figures"]) == (1, {"again": 1}, {"texts": 3})
    assert (last["n_changed"], last["parameters"]["words"]) == (2, 1)
    assert {"source": "a.txt:1", "before": "one two four", "after": "one two"} in first["samples"]
    assert once["samples"] == [{"source": "a.txt:1", "before": "one two", "after": None, "reason": "again"}]


def test_samples_do_not_depend_on_the_order_of_the_documents(tmp_path: Path) -> None:
    texts = [f"word {n} and more words" for n in range(40)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    samples = [
        [(s["before"], s["after"]) for s in run(folder, [Shorten()], order)[1][0]["samples"]]
        for folder, order in ((tmp_path / "a", texts), (tmp_path / "b", texts[::-1]))
    ]
    assert len(samples[0]) == 10
    assert samples[0] == samples[1]


def test_excluded_files_pass_unchanged(tmp_path: Path) -> None:
    steps = [Shorten(exclude=("*.py",)), OnlyOnce(exclude=("src/*",))]
    rows, report = run(tmp_path, steps, ["a b c", "a b c"], source="work/src/x.py")
    assert [d.text for _, d in rows] == ["a b c", "a b c"]
    assert report[1]["figures"] == {"texts": 0}


DIGESTS = {  # of corpora as they were before there were cleaning steps
    "files": ("4fec5bda666fca79", "1b2f8f2be0b14513", "c95bef74d60ed7cc"),
    "book": ("dcb7ed6490256053", "efffbc7c0fc7ee44", "fd511aae28c11d1e"),
}


@pytest.mark.parametrize("name", DIGESTS)
def test_a_corpus_without_steps_has_the_bytes_that_it_always_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_files(Path("in"), list(range(60)) if name == "files" else [])
    if name == "files":
        marker = "*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n"
        (folder / "book.txt").write_text(marker + "".join(text_of(k) for k in range(100, 140)))
        (folder / "copy.txt").write_text(text_of(3))
    else:
        (folder / "one.txt").write_text("\n".join(text_of(k) for k in range(400)))
    values = {"paths": ["in"], "cleaning": [], "max_document_chars": 20_000 if name == "files" else 8000}
    prepare_corpus(TextConfig.parse(values), "out")
    made = [hashlib.sha256(Path("out", f"{split}.jsonl").read_bytes()).hexdigest()[:16] for split in SPLITS]
    assert tuple(made) == DIGESTS[name]
    assert "cleaning" not in json.loads(Path("out", "report.json").read_text())


def test_clean_text_gives_the_same_splits_with_the_default_steps(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.txt").write_text("\n".join(text_of(k) for k in range(100)))
    for name, values in {"default": {}, "none": {"cleaning": []}}.items():
        prepare_corpus(TextConfig.parse({"paths": [str(tmp_path / "in")]} | values), tmp_path / name)
    for split in SPLITS:
        file = f"{split}.jsonl"
        assert (tmp_path / "default" / file).read_bytes() == (tmp_path / "none" / file).read_bytes()
    report = json.loads((tmp_path / "default" / "report.json").read_text())
    assert [(step["step"], step["n_changed"]) for step in report["cleaning"]] == [("repair_text", 0)]


def test_cleaned_documents_are_deduplicated_again_and_name_the_steps(tmp_path: Path) -> None:
    pytest.importorskip("ftfy")
    folder = write_files(tmp_path / "in", list(range(80)))
    for n in range(3):
        (folder / f"bad{n}.txt").write_text(text_of(500) + "cafÃ© " * (n == 1) + "café " * (n != 1))
    prepare_corpus(TextConfig(paths=(str(folder),), validation_fraction=0.2), tmp_path / "out")
    documents = [d for split in SPLITS for d in iter_corpus(tmp_path / "out", split)]
    cafes = [d for d in documents if "caf" in d.text]
    assert len(documents) == 81
    assert [(d.text.endswith("café "), d.steps) for d in cafes] == [(True, ())]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["duplicates"] == 2
    assert report["cleaning"][0]["n_changed"] == 1


def test_a_step_by_name_and_one_that_does_not_exist() -> None:
    config = TextConfig.parse({"cleaning": ["repair_text:quotes=true:exclude=*.md,*.rst", "repeated_lines"]})
    assert config.cleaning[0].exclude == ("*.md", "*.rst")  # type: ignore[union-attr]
    assert [step.step for step in config.cleaning] == ["repair_text", "repeated_lines"]
    assert TextConfig.parse(config.model_dump(mode="json")) == config
    with pytest.raises(UserError, match="'repair_txt' is no cleaning step") as error:
        TextConfig.parse({"cleaning": ["repair_txt"]})
    assert "did you mean repair_text?" in error.value.hint
    with pytest.raises(UserError, match="quote"):
        TextConfig.parse({"cleaning": [{"step": "repair_text", "quote": True}]})
    with pytest.raises(UserError, match="max_in_document"):
        TextConfig.parse({"cleaning": ["repeated_lines:max_in_document=0"]})
