"""`parakit predict`: what each kind of model says, for people and for machines."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parakit.checkpoints import save_model
from parakit.cli.main import main
from parakit.common import Lineage
from parakit.inference import classify, embed, fill_masks, regress, translate
from parakit.inference.prediction.classification import tag
from parakit.model.presets import config_for_size
from parakit.stages.config import FinetuneConfig
from parakit.stages.task_models import build_model, task_model
from parakit.tokens import TokenizerConfig, train_tokenizer

TEXT = "the small bird sees a red tree and sings near the old house. "
ASKED = ["the small bird", "a red tree near the house"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Any, dict[str, Any]]:
    """A folder of random models of every kind, their tokenizer, and the models."""
    tokenizer = train_tokenizer(iter([TEXT * 20]), TokenizerConfig(vocab_size=300))
    folder, models = tmp_path_factory.mktemp("models"), {}
    bases = {}
    for family in ("decoder", "encoder", "encoder-decoder"):
        torch.manual_seed(0)
        bases[family] = build_model(config_for_size("80k", tokenizer.vocab_size, 64, family).config)
    models = {
        "speaker": bases["decoder"],
        "filler": bases["encoder"],
        "translator": bases["encoder-decoder"],
        "classifier": task_model(bases["encoder"], FinetuneConfig(task="classify"), ("bad", "good")),
        "tagger": task_model(bases["encoder"], FinetuneConfig(task="tag"), ("noun", "other", "verb")),
        "scorer": task_model(bases["decoder"], FinetuneConfig(task="regress"), ("score",)),
        "embedder": task_model(bases["encoder"], FinetuneConfig(task="embed")),
    }
    for name, model in models.items():
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
        save_model(model.eval(), tokenizer, folder / name, Lineage("model"))
    return folder, tokenizer, models


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


def predicted(capsys, model: Path, *flags: object) -> list[dict[str, Any]]:
    status, out, err = run(capsys, "predict", model, *flags, "--json", "--device", "cpu")
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_a_classifier_tells_labels_with_probabilities(capsys, made):
    folder, tokenizer, models = made
    found = predicted(capsys, folder / "classifier", "--text", *ASKED)
    expected = classify(models["classifier"], tokenizer, ASKED)
    assert [row["label"] for row in found] == [one.label for one in expected]
    for row, one, text in zip(found, expected, ASKED, strict=True):
        assert row["text"] == text
        assert row["probabilities"] == pytest.approx(one.probabilities)
        assert sum(row["probabilities"].values()) == pytest.approx(1)
    status, out, _ = run(capsys, "predict", folder / "classifier", "--text", ASKED[0])
    assert status == 0
    assert out.startswith(f"{found[0]['label']}  {100 * found[0]['probability']:.1f} %")


def test_rows_of_a_file_are_read_as_the_examples_of_a_task_are(capsys, made, tmp_path, monkeypatch):
    folder, tokenizer, models = made
    rows = [{"text": ASKED[0], "text_pair": ASKED[1]}, {"text": ASKED[1]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    found = predicted(capsys, folder / "scorer", "--input", tmp_path / "rows.jsonl")
    expected = regress(models["scorer"], tokenizer, [(ASKED[0], ASKED[1]), ASKED[1]])
    assert [row["score"] for row in found] == pytest.approx(expected, rel=1e-5)
    assert found[0]["text_pair"] == ASKED[1]
    (tmp_path / "texts.txt").write_text("\n".join(ASKED) + "\n\n")
    for flags in (["--input", tmp_path / "texts.txt"], ["--text", ASKED[0], "--text", ASKED[1]]):
        again = predicted(capsys, folder / "scorer", *flags)
        assert [row["text"] for row in again] == ASKED
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(ASKED)))
    assert predicted(capsys, folder / "scorer") == again


def test_a_tagger_tags_each_word(capsys, made, tmp_path):
    folder, tokenizer, models = made
    found = predicted(capsys, folder / "tagger", "--text", ASKED[0])
    expected = tag(models["tagger"], tokenizer, [ASKED[0].split()])[0]
    assert found[0]["words"] == ASKED[0].split()
    assert found[0]["tags"] == [one.label for one in expected]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"words": ASKED[0].split()}) + "\n")
    again = predicted(capsys, folder / "tagger", "--input", tmp_path / "rows.jsonl")
    assert again[0]["tags"] == found[0]["tags"]
    _, out, _ = run(capsys, "predict", folder / "tagger", "--text", ASKED[0])
    assert out.strip() == " ".join(
        f"{word}/{label}" for word, label in zip(found[0]["words"], found[0]["tags"], strict=True)
    )


def test_a_translator_writes_greedily_or_with_beams(capsys, made):
    from parakit.inference import BeamConfig, SamplingConfig

    folder, tokenizer, models = made
    flags = ["--text", *ASKED, "--max-new-tokens", "6"]
    found = predicted(capsys, folder / "translator", *flags)
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=6)
    assert [row["target"] for row in found] == translate(models["translator"], tokenizer, ASKED, greedy)
    beams = BeamConfig(n_beams=3, max_new_tokens=6)
    expected = translate(models["translator"], tokenizer, ASKED, beams)
    found = predicted(capsys, folder / "translator", *flags, "--n-beams", "3")
    assert [row["target"] for row in found] == expected
    _, out, _ = run(capsys, "predict", folder / "translator", *flags, "--n-beams", "3")
    assert out.strip() == "\n".join(expected).strip()


def test_an_encoder_fills_masks(capsys, made):
    folder, tokenizer, models = made
    text = "the [MASK] bird sees a [MASK] tree"
    found = predicted(capsys, folder / "filler", "--text", text, "--n-candidates", "3")
    expected = fill_masks(models["filler"], tokenizer, [text], n_candidates=3)[0]
    assert len(found[0]["masks"]) == 2
    assert [[one["token"] for one in place] for place in found[0]["masks"]] == [
        [one.text for one in place.candidates] for place in expected
    ]
    _, out, _ = run(capsys, "predict", folder / "filler", "--text", text)
    assert [line.partition(":")[0] for line in out.splitlines()] == ["mask 1", "mask 2"]


@pytest.mark.parametrize(
    ("name", "flags"), [("embedder", []), ("filler", ["--embed"]), ("speaker", ["--embed"])]
)
def test_vectors(capsys, made, name, flags):
    folder, tokenizer, models = made
    found = predicted(capsys, folder / name, "--text", *ASKED, *flags)
    expected = embed(models[name], tokenizer, ASKED)
    np.testing.assert_allclose([row["vector"] for row in found], expected, rtol=1e-4, atol=1e-6)
    _, out, _ = run(capsys, "predict", folder / name, "--text", ASKED[0], *flags)
    assert f"{expected.shape[1]} numbers" in out


@pytest.mark.parametrize(
    ("name", "flags", "told"),
    [
        ("speaker", ["--text", "x"], "parakit generate"),
        ("filler", ["--text", "no placeholder"], "[MASK]"),
        ("classifier", ["--text", "x", "--input", "y"], "both --text and --input"),
        ("classifier", ["--input", "absent.txt"], "absent.txt: no such file"),
        ("classifier", ["--input", "bad.jsonl"], "bad.jsonl, row 2: not JSON"),
        ("classifier", ["--input", "keys.jsonl"], "keys.jsonl, row 1: no object with"),
        ("classifier", ["--input", "empty.txt"], "empty.txt: empty"),
        ("absent", ["--text", "x"], "absent"),
    ],
)
def test_mistakes_are_told_with_the_way_out(capsys, made, tmp_path, monkeypatch, name, flags, told):
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text('{"text": "a"}\n{"text"\n')
    Path("keys.jsonl").write_text('{"txt": "a"}\n')
    Path("empty.txt").write_text("\n")
    status, out, err = run(capsys, "predict", made[0] / name, *flags)
    assert (status, out) == (2, "")
    assert told in err


@pytest.mark.parametrize("name", ["classifier", "filler", "translator", "embedder"])
@pytest.mark.parametrize("verb", ["generate", "chat"])
def test_what_does_not_write_is_not_asked_to(capsys, made, monkeypatch, name, verb):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    status, out, err = run(capsys, verb, made[0] / name)
    assert status == 2
    assert out == ""
    assert "this model cannot continue a text" in err
