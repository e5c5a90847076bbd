"""One evaluation of a model folder: everything named, kept as an artifact, and refused where it would
mislead.
"""

from __future__ import annotations

import json

import pytest

from parakit.checkpoints import save_model
from parakit.common import Lineage, UserError, open_artifact
from parakit.data import Document
from parakit.evaluation.config import EvaluationConfig
from parakit.evaluation.evaluate import evaluate_model, write_evaluation
from parakit.evaluation.perplexity import without_blocks
from parakit.tokens import TokenizerConfig, train_tokenizer, write_shards

TEXT = "Anna sees the bird. The bird sings.\n" * 20


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "held_out.txt"
    path.write_text(TEXT)
    return path


def shards_of(tokenizer, path):
    return write_shards({"validation": [Document(TEXT, "x", len(TEXT))]}, tokenizer, path)


def test_shards_and_the_same_raw_text_give_the_same_figures_and_the_artifact_keeps_them(
    model_folder, tokenizer, text_file, tmp_path
):
    shards = shards_of(tokenizer, tmp_path / "shards")
    config = EvaluationConfig(
        tokens=str(shards),
        text=(str(text_file),),
        suites={"n_suite_items": 8},
        max_new_tokens=4,
    )
    results = evaluate_model(model_folder, config)
    figures = {name: without_blocks(loss) for name, loss in results["loss"].items()}
    assert figures["text"] == figures["validation"]
    assert results["loss"]["text"]["block_nats"] == results["loss"]["validation"]["block_nats"]
    assert (figures["text"]["n_end_tokens"], figures["text"]["n_documents"]) == (1, 1)
    assert results["loss"]["text"]["n_bytes"] == len(TEXT)
    assert results["model"]["chat_tuned"] is True
    assert {suite["prompting"] for suite in results["suites"].values()} == {"chat"}
    written = write_evaluation(tmp_path / "evaluation", results, config)
    artifact = open_artifact(written, "evaluation")
    assert [parent["kind"] for parent in artifact.lineage["parents"]] == ["model", "shards"]
    kept = json.loads((written / "results.json").read_text())
    assert kept["loss"] == json.loads(json.dumps(results["loss"]))
    assert artifact.lineage["result"]["loss"] == figures
    assert len(kept["suites"]["facts"]["samples"]) == 8
    assert "samples" not in artifact.lineage["result"]["suites"]["facts"]
    with pytest.raises(UserError, match="exists already"):
        write_evaluation(written, results, config)


def test_a_base_model_is_asked_as_plain_text_unless_told_otherwise(model, tokenizer, tmp_path):
    folder = save_model(model, tokenizer, tmp_path / "base", Lineage("model"))
    config = EvaluationConfig(suites={"n_suite_items": 8}, max_new_tokens=2)
    assert {s["prompting"] for s in evaluate_model(folder, config)["suites"].values()} == {"plain"}
    chat_config = config.replace(prompting="chat")
    assert {s["prompting"] for s in evaluate_model(folder, chat_config)["suites"].values()} == {"chat"}


def test_shards_of_another_tokenizer_are_refused(model_folder, tmp_path):
    other = train_tokenizer(iter(["something else entirely"]), TokenizerConfig(vocab_size=300))
    shards = shards_of(other, tmp_path / "shards")
    with pytest.raises(UserError, match="another tokenizer"):
        evaluate_model(model_folder, EvaluationConfig(tokens=str(shards)))


def test_nothing_to_measure_and_no_tokenizer_are_named(model, model_folder, text_file, tmp_path):
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluate_model(model_folder, EvaluationConfig())
    bare = save_model(model, None, tmp_path / "bare", Lineage("model"))
    with pytest.raises(UserError, match="no tokenizer"):
        evaluate_model(bare, EvaluationConfig(text=(str(text_file),)))
