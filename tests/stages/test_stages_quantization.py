"""Quantization as a command and a stage: what it records, and when it refuses to finish."""

import json
import math

import pytest
import torch

import parakit
from parakit.checkpoints.loading import load_model
from parakit.cli.main import main
from parakit.common.errors import UserError
from parakit.common.files import read_json
from parakit.compression.quantization import quantize
from parakit.model.quantized import dequantize_modules, is_quantized
from parakit.stages.defaults.published import is_published
from parakit.stages.quantization.running import recorded_suites


@pytest.fixture(scope="module")
def trained(primer_build):
    return primer_build[0] / "primer" / "finetune"


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch):
    monkeypatch.setattr(quantize, "decode_speed", lambda model: 10.0)


SMALL = {"n_measured_tokens": 256, "measured_seq_len": 64}


def test_int8_is_four_times_smaller_and_hardly_differs(trained, tmp_path):
    figures = parakit.quantize(trained, out=tmp_path / "int8", suites="none", bits=8, **SMALL)["quantization"]
    assert figures["divergence"]["kl"] < 1e-3
    assert "validation" in figures["divergence"]["text"]  # what its build held out
    model, _ = load_model(tmp_path / "int8")
    assert is_quantized(model)
    stored = read_json(tmp_path / "int8" / "lineage.json")
    assert stored["result"]["quantization"] == figures
    assert stored["config"]["quantization"]["bits"] == 8
    assert read_json(tmp_path / "int8" / "training" / "quantization.json") == figures
    assert "KL to the original" in (tmp_path / "int8" / "README.md").read_text()


def test_the_divergence_is_that_of_a_computation_in_float64(trained, tmp_path):
    figures = parakit.quantize(trained, out=tmp_path / "out", suites="none", bits=4, **SMALL)["quantization"]
    original, tokenizer = load_model(trained, dtype="float64")
    model, _ = load_model(tmp_path / "out")
    dequantize_modules(model)
    model = model.double()
    from parakit.compression.quantization.config import QuantizeConfig
    from parakit.compression.quantization.text import find_windows

    _, windows = find_windows(original, tokenizer, trained, QuantizeConfig(bits=4, **SMALL))
    with torch.no_grad():
        p = original(windows.token_ids).log_softmax(-1)
        q = model(windows.token_ids).log_softmax(-1)
    kl = float((p.exp() * (p - q)).sum(-1).mean())
    loss = -float(q[:, :-1].gather(-1, windows.token_ids[:, 1:, None]).mean())
    assert figures["divergence"]["kl"] == pytest.approx(kl, rel=1e-3)
    assert figures["divergence"]["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_a_budget_is_kept_and_the_layers_that_matter_get_more_bits(trained, tmp_path):
    budget = 60_000
    figures = parakit.quantize(
        trained,
        out=tmp_path / "out",
        suites="none",
        size_budget=f"{budget}B",
        n_sensitivity_tokens=64,
        **SMALL,
    )["quantization"]
    assert figures["size"]["bytes"] <= budget
    chosen = {row["bits"] for row in figures["sensitivity"] if row["chosen"]}
    assert chosen == {4, 8}
    assert "<svg" in (tmp_path / "out" / "training" / "sensitivity.svg").read_text()
    with pytest.raises(
        UserError, match=r"budget of 0.0 MB, and with 4 bits everywhere the weights need 0\.\d MB"
    ):
        parakit.quantize(trained, out=tmp_path / "less", suites="none", size_budget="9kB", **SMALL)
    assert not (tmp_path / "less").exists()


def test_a_budget_with_gptq_is_chosen_by_what_matrices_cost_after_it(trained, tmp_path):
    costs = {}
    for method in ("rounding", "gptq"):
        settings = {"method": method, "size_budget": "60kB", "n_calibration_tokens": 512}
        done = parakit.quantize(
            trained, out=tmp_path / method, suites="none", n_sensitivity_tokens=256, **settings, **SMALL
        )
        figures = done["quantization"]
        assert figures["size"]["bytes"] <= 60_000
        costs[method] = sum(row["kl"] for row in figures["sensitivity"] if row["bits"] == 4)
    assert 0 < costs["gptq"] < costs["rounding"]


def test_a_suite_that_falls_stops_it_and_leaves_nothing(trained, tmp_path, monkeypatch, capsys):
    assert recorded_suites(trained).n_suite_items == 8
    scores = iter([{"facts": 0.5, "counting": 0.3}, {"facts": 0.485, "counting": 0.295}] * 2)
    monkeypatch.setattr(quantize, "suite_scores", lambda *settings: next(scores))
    out = tmp_path / "out"
    words = ["quantize", str(trained), "--output", str(out), "--bits", "4", "--n-measured-tokens", "64"]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "facts by 1.5%" in printed.err
    assert "counting by" not in printed.err
    assert "perplexity" in printed.out
    assert list(tmp_path.iterdir()) == []
    assert main([*words, "--accept-loss", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suites"]["quantized"]["facts"] == 0.485


def test_what_is_no_plain_language_model_is_refused(trained, tmp_path, published_encoder):
    with pytest.raises(UserError, match="MaskedLanguageModel, and only models that predict the next token"):
        parakit.quantize(published_encoder, out=tmp_path / "a", bits=8)
    parakit.quantize(trained, out=tmp_path / "int8", suites="none", bits=8, **SMALL)
    with pytest.raises(UserError, match="is quantized already"):
        parakit.quantize(tmp_path / "int8", out=tmp_path / "b", bits=4)
    assert not (tmp_path / "b").exists()


def test_a_model_of_nobodys_build_is_measured_on_general_texts(published_decoder, tmp_path):
    figures = parakit.quantize(published_decoder, out=tmp_path / "out", bits=4, method="gptq", n_calibration_tokens=128,
                               **SMALL)["quantization"]  # fmt: skip
    assert figures["divergence"]["text"] == "general texts that come with Parakit"
    assert figures["calibration"] == {"text": "text that the model generated", "n_tokens": 96}
    assert figures["suites"] == {"original": {}, "quantized": {}}
    assert is_published(tmp_path / "out")  # what is tuned from it has the defaults of a published model
