"""An evaluation searches what the model was trained on, and an evaluation that is there can be searched in other text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import parakit
from parakit.checkpoints import save_model
from parakit.cli.main import main
from parakit.common.artifacts import Lineage, open_artifact
from parakit.common.errors import UserError
from parakit.common.files import read_json
from parakit.data.config import TextConfig
from parakit.data.corpus import prepare_corpus
from parakit.model import LanguageModel
from parakit.primer import generate_suites
from parakit.primer.config import PrimerSuitesConfig
from parakit.tokens import Tokenizer

SUITES = {"n_suite_items": 8}


@pytest.fixture
def leaky(tmp_path: Path, model: LanguageModel, tokenizer: Tokenizer) -> Path:
    """A model whose corpus has three questions of the suite of arithmetic."""
    items = generate_suites(PrimerSuitesConfig(**SUITES))["arithmetic"][:3]
    rows = [f"Page {i} of a book about {i} birds and {i + 1} trees." for i in range(40)]
    rows += [f"{item.messages[-1].content.upper()} and so on, page {i}" for i, item in enumerate(items)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    config = TextConfig(paths=(str(tmp_path / "rows.jsonl"),), validation_fraction=0, test_fraction=0)
    corpus = prepare_corpus(config, tmp_path / "corpus")
    return save_model(model, tokenizer, tmp_path / "leaky", Lineage("model", {"stage": "pretrain"}, [corpus]))


def test_leaks_in_the_training_text_stand_next_to_the_score_and_in_the_card(
    leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = parakit.evaluate(leaky, suites=SUITES, max_new_tokens=2, out=tmp_path / "e", device="cpu")
    figures = found["suites"]["arithmetic"]["contamination"]
    assert figures["n_touched"] == 3
    assert figures["scores_without"]["right"]["n"] == 5
    assert [text["kind"] for text in figures["texts"]] == ["corpus"]
    card = (tmp_path / "e" / "README.md").read_text()
    assert "(3 of 8 items)" in card
    open_artifact(tmp_path / "e", "evaluation")
    assert main(["evaluate", str(tmp_path / "e"), "--contamination", str(tmp_path / "rows.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "37.5 %" in printed
    assert "arithmetic: 3 of 8 items are in the searched text" in printed


def test_other_text_can_be_searched_afterwards(leaky: Path, tmp_path: Path) -> None:
    settings = {"suites": SUITES, "max_new_tokens": 2, "device": "cpu"}
    found = parakit.evaluate(leaky, contamination=["none"], out=tmp_path / "e", **settings)
    assert "contamination" not in found["suites"]["arithmetic"]
    (tmp_path / "web.txt").write_text("Nothing of it.")
    parakit.evaluate(
        tmp_path / "e", contamination=[str(tmp_path / "web.txt")], out=tmp_path / "e", overwrite=True
    )
    results = read_json(tmp_path / "e" / "results.json")
    assert results["suites"]["arithmetic"]["contamination"]["n_touched"] == 0
    with pytest.raises(UserError, match="suites does not go with"):
        parakit.evaluate(tmp_path / "e", suites=SUITES)
    with pytest.raises(UserError, match="no such file"):
        parakit.evaluate(leaky, contamination=["nowhere"], **settings)


def test_a_text_that_has_changed_costs_no_evaluation(leaky: Path, tmp_path: Path) -> None:
    with open(tmp_path / "corpus" / "train.jsonl", "a") as file:
        file.write("\n")
    found = parakit.evaluate(leaky, suites=SUITES, max_new_tokens=2, out=tmp_path / "e", device="cpu")
    figures = found["suites"]["arithmetic"]["contamination"]
    assert figures["texts"] == []
    assert "train.jsonl" in figures["unknown"][0]
    assert "share" not in figures
    with pytest.raises(UserError, match=r"train\.jsonl"):
        parakit.evaluate(tmp_path / "e", contamination=["lineage"])
