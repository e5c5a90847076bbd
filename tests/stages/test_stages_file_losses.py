"""The loss by file of held-out text: exact, and the odd file first."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from parakit.common.artifacts import open_artifact
from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.evaluation.perplexity import encode_documents, evaluate_loss
from parakit.reports.corpus_page import corpus_view, render_corpus_page
from parakit.stages.data import make_shards, make_tokenizer
from parakit.stages.job import run_job
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.stages.test_stages_mixture import SEQ_LEN, job
from tests.stages.test_stages_mixture import _load as load


@pytest.mark.long
def test_the_files_whose_loss_is_far_from_the_others_are_named(tmp_path: Path) -> None:
    draw = random.Random(0)
    for folder, n in (("train", 12), ("held", 5)):
        (tmp_path / folder).mkdir()
        for i in range(n):
            words = draw.choices(
                ["the", "harbour", "bridge", "opened", "in", "spring", "and", "ferries", "stopped"], k=120
            )
            (tmp_path / folder / f"{i}.txt").write_text(" ".join(words))
    odd = "".join(draw.choices("0123456789#@%&*+=<>", k=600))
    (tmp_path / "held" / "odd.txt").write_text(odd)
    paths = {"paths": (str(tmp_path / "train"),), "validation_paths": (str(tmp_path / "held"),)}
    prepare_corpus(TextConfig(**paths, test_fraction=0, deduplicate=False), tmp_path / "corpus")
    make_tokenizer(tmp_path / "corpus", TokenizerConfig(vocab_size=300), tmp_path / "tokenizer")
    make_shards(tmp_path / "corpus", tmp_path / "tokenizer", tmp_path / "shards")
    figures = run_job(job(tmp_path / "shards", tmp_path), tmp_path / "model")
    rows = {row["file"]: row for row in figures["file_losses"]}
    assert len(rows) == 6
    assert next(iter(rows)) == "held/odd.txt"
    assert rows["held/odd.txt"]["times"] > 1.2
    model, tokenizer = load(tmp_path / "model"), Tokenizer.load(tmp_path / "tokenizer")
    for one in iter_corpus(tmp_path / "corpus", "validation"):
        alone = evaluate_loss(model, encode_documents(tokenizer, [one]), seq_len=SEQ_LEN)
        assert rows[one.source]["bits_per_byte"] == pytest.approx(alone.bits_per_byte)
        assert rows[one.source]["bytes"] == len(one.text)
    assert open_artifact(tmp_path / "model").lineage["result"]["file_losses"] == figures["file_losses"]
    view = corpus_view(tmp_path / "corpus")
    assert view["file_losses"][0]["file"] == "held/odd.txt"
    assert "held/odd.txt" in render_corpus_page(view, "corpus").partition("odd to the model")[2]
