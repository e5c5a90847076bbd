"""`parakit inspect lens, next, experts, diff, embeddings`: tables, JSON and pages, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import save_model
from parakit.cli.main import main
from parakit.common.artifacts import Lineage
from parakit.model import DecoderConfig, LanguageModel

TEXT = "the small bird sees a red tree"


def out_of(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    assert main(["inspect", *map(str, words)]) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


@pytest.fixture(scope="module")
def mixture(published_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of two layers with experts that nobody trained."""
    _, tokenizer = load_model(published_decoder)
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=16,
        d_expert=8, n_experts=4, n_active_experts=2, query_key_norm=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("mixture") / "model"
    save_model(LanguageModel(config), tokenizer, folder, Lineage("model"))
    return folder


def test_the_lens_is_a_table_json_and_a_page(published_decoder, tmp_path, capsys):
    table = out_of(capsys, "lens", published_decoder, "--text", TEXT)
    assert "embedding" in table
    assert "KL(output || layer)" in table
    found = json.loads(out_of(capsys, "lens", published_decoder, "--text", TEXT, "--json"))
    assert found["places"] == ["embedding", "1", "2"]
    assert found["mean_kl"][-1] == 0
    page = tmp_path / "lens.html"
    assert out_of(capsys, "lens", published_decoder, "--text", TEXT, "--output", page) == ""
    assert "Logit lens" in page.read_text()
    again = out_of(capsys, "lens", published_decoder, "--text", TEXT, "--output", page, status=2)
    assert "exists already" in again


def test_a_tuned_lens_is_trained_and_used(published_decoder, text, tmp_path, capsys):
    lens, page = tmp_path / "lens", tmp_path / "lens.html"
    options = ["--max-steps", "4", "--seq-len", "16", "--positions-per-step", "4", "--json"]
    figures = json.loads(
        out_of(capsys, "lens", published_decoder, "--train-on", text, "--output", lens, *options)
    )
    assert figures["steps"] == 4
    assert len(figures["kl_tuned_lens"]) == 3
    out_of(capsys, "lens", published_decoder, "--text", TEXT, "--tuned", lens, "--output", page)
    assert "Tuned lens" in page.read_text()
    assert main(["show", str(lens)]) == 0
    assert "tuned_lens" in capsys.readouterr().out
    error = out_of(capsys, "lens", published_decoder, "--train-on", text, status=2)
    assert "--output" in error


def test_next_tokens_are_tables_json_and_a_page(published_decoder, tmp_path, capsys):
    table = out_of(capsys, "next", published_decoder, "--text", TEXT)
    assert "can be drawn" in table
    found = json.loads(out_of(capsys, "next", published_decoder, "--text", TEXT, "--json"))
    assert len(found["sampling"]["settings"]) == 12
    assert found["actual_probabilities"][-1] is None
    page = tmp_path / "next.html"
    out_of(capsys, "next", published_decoder, "--text", TEXT, "--output", page, "--temperature", "0.5")
    assert "Temperature and top-p" in page.read_text()
    error = out_of(capsys, "next", published_decoder, "--text", TEXT, "--position", "99", status=2)
    assert "position 99, and the text has" in error


def test_an_encoder_fills_every_position(published_encoder, capsys):
    found = json.loads(out_of(capsys, "next", published_encoder, "--text", TEXT, "--json"))
    assert found["masked"]
    assert len(found["top_tokens"]) == len(found["tokens"])


def test_experts_are_tables_json_and_a_page(mixture, published_decoder, tmp_path, capsys):
    assert "balance" in out_of(capsys, "experts", mixture, "--text", TEXT)
    found = json.loads(out_of(capsys, "experts", mixture, "--text", TEXT, "--json"))
    assert [layer["name"] for layer in found["layers"]] == ["blocks.0", "blocks.1"]
    page = tmp_path / "experts.html"
    out_of(capsys, "experts", mixture, "--text", TEXT, "--output", page)
    assert "Experts by token" in page.read_text()
    error = out_of(capsys, "experts", published_decoder, "--text", TEXT, status=2)
    assert "has no experts" in error


def test_a_difference_is_tables_json_and_a_page(published_decoder, mixture, tmp_path, capsys):
    model, tokenizer = load_model(published_decoder)
    with torch.no_grad():
        model.get_parameter("trunk.blocks.0.feed_forward.up.weight").mul_(1.1)
    save_model(model, tokenizer, tmp_path / "changed", Lineage("model"))
    table = out_of(capsys, "diff", published_decoder, tmp_path / "changed", "--n-matrices", "1")
    assert "feed_forward.up" in table
    found = json.loads(out_of(capsys, "diff", published_decoder, tmp_path / "changed", "--json"))
    changed = [row for row in found["matrices"] if row["difference_norm"]]
    assert [row["matrix"] for row in changed] == ["feed_forward.up"]
    assert changed[0]["relative_norm"] == pytest.approx(0.1, rel=1e-4)
    page = tmp_path / "diff.html"
    out_of(capsys, "diff", published_decoder, tmp_path / "changed", "--output", page)
    assert "parameters differ" in page.read_text()
    error = out_of(capsys, "diff", published_decoder, mixture, status=2)
    assert "different shapes" in error


def test_embeddings_are_tables_json_pages_and_maps(published_encoder, tmp_path, capsys):
    words = ["--words", "bird", "tree"]
    assert "cosine" in out_of(capsys, "embeddings", published_encoder, *words)
    (tmp_path / "questions.txt").write_text(": birds\nbird tree red small\nbird tree zebra small\n")
    options = [*words, "--n-neighbours", "3", "--analogies", tmp_path / "questions.txt", "--json"]
    found = json.loads(
        out_of(capsys, "embeddings", published_encoder, *options, "--analogy", "bird", "tree", "red")
    )
    assert [len(one["words"]) for one in found["neighbours"]] == [3, 3, 3]
    assert [(row["category"], row["n"], row["n_questions"]) for row in found["analogies"]] == [
        ("birds", 1, 2),
        ("all", 1, 2),
    ]
    texts = ["--texts", "the bird sees a tree", "a red house"]
    assert "0." in out_of(capsys, "embeddings", published_encoder, *texts)
    page, picture = tmp_path / "page.html", tmp_path / "map.svg"
    out_of(capsys, "embeddings", published_encoder, *words, *texts, "--output", page, "--map", "pca")
    assert "principal components" in page.read_text()
    out_of(capsys, "embeddings", published_encoder, *texts, "--output", picture, "--map", "pca")
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to look up"),
        (["--analogy", "bird", "tree"], "an analogy of 2 words"),
        (["--texts", "one"], "two or more"),
        (["--words", "bird", "--map", "pca"], "a map is a picture"),
        (["--words", "bird", "--table", "output", "--overwrite"], "nothing is written"),
        (["--analogy", "bird", "tree", "zebracorn"], "no vector for the word 'zebracorn'"),
    ],
)
def test_bad_requests_for_embeddings_are_refused(published_encoder, capsys, words, message):
    assert message in out_of(capsys, "embeddings", published_encoder, *words, status=2)


def test_a_text_over_the_context_window_is_refused(published_decoder, capsys):
    long = "bird " * 200
    for verb in ("lens", "next"):
        assert "context window" in out_of(capsys, verb, published_decoder, "--text", long, status=2)
