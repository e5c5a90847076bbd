"""`parakit inspect`: what its verbs print and write, and what they refuse."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from parakit.cli.inspect_model import COMMANDS
from parakit.cli.main import main

TEXT = "The small bird sees the old tree"


@pytest.fixture(scope="module")
def model(tiny_build: Path) -> str:
    return str(tiny_build / "pretrain")


def run(capsys, *argv: str) -> str:
    """What a verb prints."""
    assert main(["inspect", *argv]) == 0
    return capsys.readouterr().out


def refused(capsys, *argv: str) -> str:
    """The message of a verb that ends with status 2."""
    assert main(["inspect", *argv]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_help_lists_every_verb_and_an_unknown_one_names_the_nearest(capsys):
    assert main(["inspect", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in COMMANDS)
    assert "did you mean 'attention'?" in refused(capsys, "atention")


def test_attention_as_json_and_as_a_heat_map(capsys, model):
    found = json.loads(run(capsys, "attention", model, "--text", TEXT, "--json"))
    assert "".join(found["tokens"][1:]) == TEXT  # behind BOS
    for name, of_heads in found["maps"].items():
        assert name.startswith("blocks.")
        np.testing.assert_allclose(np.sum(of_heads, -1), 1, atol=1e-4)
    shown = run(capsys, "attention", model, "--text", "The bird", "--layer", "0", "--head", "0")
    assert "blocks.0.attention, head 0: attention in percent" in shown
    one = json.loads(run(capsys, "attention", model, "--text", TEXT, "--layer", "0", "--head", "0", "--json"))
    assert one["maps"]["blocks.0.attention"] == [found["maps"]["blocks.0.attention"][0]]
    assert one["first_head"] == 0


def test_rollout_and_flow_reach_the_tokens(capsys, model):
    (rollout,) = json.loads(run(capsys, "attention", model, "--text", TEXT, "--kind", "rollout", "--json"))[
        "maps"
    ].values()
    np.testing.assert_allclose(np.sum(rollout, -1), 1, atol=1e-4)
    flow = json.loads(
        run(capsys, "attention", model, "--text", TEXT, "--kind", "flow", "--token", "2", "--json")
    )
    (row,) = flow["maps"]["flow"]
    assert (np.array(row[3:]) == 0).all()
    assert min(row[:3]) > 0
    assert "maximum flow" in run(capsys, "attention", model, "--text", TEXT, "--kind", "flow")


def test_a_page_is_written_once(capsys, model, tmp_path):
    page = tmp_path / "a.html"
    assert run(capsys, "attention", model, "--text", TEXT, "--output", str(page)) == ""
    first = page.read_text()
    assert "<canvas" in first
    assert "exists already" in refused(capsys, "attention", model, "--text", TEXT, "--output", str(page))
    run(capsys, "attention", model, "--text", "The bird", "--output", str(page), "--overwrite")
    assert page.read_text() != first
    assert "is called *.html" in refused(capsys, "attention", model, "--text", TEXT, "--output", "a.json")
    nowhere = str(tmp_path / "no" / "a.html")
    assert "no such folder" in refused(capsys, "attention", model, "--text", TEXT, "--output", nowhere)


def test_what_is_not_there_is_named(capsys, model, monkeypatch):
    assert "layer 99 is not there: the layers are 0 to" in refused(
        capsys, "attention", model, "--text", TEXT, "--layer", "99"
    )
    assert "head 99 is not there" in refused(capsys, "attention", model, "--text", TEXT, "--head", "99")
    assert "context window holds 32" in refused(capsys, "attention", model, "--text", TEXT * 40)
    assert "only an encoder-decoder reads one" in refused(
        capsys, "attention", model, "--text", TEXT, "--target", "x"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert "there is no text" in refused(capsys, "attention", model)
    assert "not a model folder" in refused(capsys, "attention", ".", "--text", TEXT)


def test_heads_by_random_tokens_by_pair_by_patch_and_by_logit(capsys, model):
    scores = json.loads(run(capsys, "heads", model, "--n-tokens", "8", "--n-sequences", "2", "--json"))
    assert set(scores["scores"]) == {"induction", "previous", "duplicate", "first"}
    assert len(scores["best"]["induction"]) > 0
    pair = "--pair", "The birds see", "The birds sees"
    found = json.loads(run(capsys, "heads", model, *pair, "--json"))
    assert all(np.abs(values).max() > 0 for values in found["effects"].values())
    mean = json.loads(run(capsys, "heads", model, *pair, "--method", "mean", "--json"))
    assert mean["effects"] != found["effects"]
    assert "value of the pair" in run(capsys, "heads", model, *pair)
    other = "--patch-from", "The birds see", "The birds sees"
    patched = json.loads(run(capsys, "heads", model, *pair, *other, "--json"))
    last = patched["patched"][-1][-1]
    assert last == pytest.approx(patched["other"]["value"] - patched["value"], abs=1e-4)
    shares = json.loads(run(capsys, "heads", model, "--text", "The small", "--json"))
    assert shares["total"] == pytest.approx(shares["logit"], abs=1e-3)
    assert "shares of the heads" in run(capsys, "heads", model, "--text", "The small")


def test_neurons_by_pair_and_by_text(capsys, model):
    pair = "--pair", "The birds see", "The birds sees"
    found = json.loads(run(capsys, "neurons", model, *pair, "--n", "3", "--json"))["neurons"]
    assert len(found) == 3
    assert abs(found[0]["effect"]) >= abs(found[1]["effect"])
    assert "effect of ablating it" in run(capsys, "neurons", model, *pair, "--n", "3")
    active = json.loads(run(capsys, "neurons", model, "--text", TEXT, "--layer", "0", "--n", "4", "--json"))
    assert {one["site"] for one in active["neurons"]} == {"blocks.0.feed_forward.neurons"}
    assert "give one of --text and --pair" in refused(capsys, "neurons", model)
    assert "--pair has 1 texts" in refused(capsys, "neurons", model, "--pair", "one")


def test_activations_are_written_with_their_description(capsys, model, tmp_path):
    from safetensors.numpy import load_file

    path = tmp_path / "a.safetensors"
    names = "--names", "blocks.0.output", "*.attention.weights"
    about = json.loads(
        run(capsys, "activations", model, "--text", TEXT, *names, "--output", str(path), "--json")
    )
    arrays = load_file(path)
    assert json.loads(path.with_suffix(".json").read_text()) == about
    assert {name: list(array.shape) for name, array in arrays.items()} == {
        name: one["shape"] for name, one in about["arrays"].items()
    }
    np.testing.assert_allclose(arrays["blocks.0.attention.weights"].sum(-1), 1, atol=1e-5)
    assert "blocks.0.output" in run(capsys, "activations", model, "--text", TEXT, *names)
    assert "did you mean" in refused(
        capsys, "activations", model, "--text", TEXT, "--names", "blocks.0.outpt"
    )


def test_behaviours_of_a_small_model(capsys, model, tmp_path):
    path = tmp_path / "b.json"
    shown = run(capsys, "behaviours", model, "--n-pairs", "12", "--n-heads", "1", "--output", str(path))
    found = json.loads(path.read_text())
    assert set(found["behaviours"]) | set(found["skipped"]) >= {
        "reference",
        "agreement",
        "negation",
        "senses",
    }
    assert found["behaviours"]
    for one in found["behaviours"].values():
        assert one["title"] in shown
        assert one["accuracy"]["n"] >= 2
        assert 0 <= one["accuracy"]["low"] <= one["accuracy"]["high"] <= 1
    assert "left out, long_range: 12 pairs that the model cannot read" in shown  # its context window is 32
