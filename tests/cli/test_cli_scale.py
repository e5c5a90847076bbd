"""`parakit scale` at the terminal: the family that is trained, the law, further builds, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import parakit
from parakit.cli.main import main
from parakit.common import UserError
from parakit.planning.scaling_laws import ScalingLaw
from parakit.recipe.sweeps import running
from tests.recipe.test_recipe_sweeps import here

LAW = ScalingLaw(
    name="planted", irreducible=1.4, size_factor=50.0, data_factor=800.0, size_exponent=0.3, data_exponent=0.4
)
AXES = ("--sizes", "34k", "46k", "60k", "--tokens", "256", "512", "1024")


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture
def command(text, tmp_path, monkeypatch) -> list[str]:
    """A family of tiny models; runs are built in this process."""
    monkeypatch.setattr(running, "start_process", here)
    short = (
        "max_seq_len=32",
        "tokenizer.vocab_size=300",
        "pretrain.batch_tokens=128",
        "pretrain.max_steps=3",
    )
    return ["scale", "--text", str(text), "--output", str(tmp_path / "family"), "--set", *short]


@pytest.mark.long
def test_a_family_is_trained_and_its_law_predicts(capsys, command, tmp_path):
    status, out, err = run(capsys, *command, *AXES, "--predict", "100k:4k", "--json")
    assert status == 0
    report = json.loads(out)
    assert len(report["runs"]) == 9
    assert {one["tokens"] for one in report["runs"]} == {256, 512, 1024}
    assert all(
        one["flops"] > 6 * one["parameters"] * one["tokens"] for one in report["runs"]
    )  # and attention
    (predicted,) = report["predictions"]
    assert (predicted["parameters"], predicted["tokens"]) == (100_000, 4_000)
    assert predicted["loss"]["low"] <= predicted["loss"]["value"] <= predicted["loss"]["high"]
    assert report == json.loads((tmp_path / "family/law/law.json").read_text())
    assert f"report: {tmp_path / 'family/law/report.html'}" in err
    builds = sorted((tmp_path / "family/runs").iterdir())
    _again_and_fitted_to_builds_alone(capsys, command, tmp_path, report, builds)


def _again_and_fitted_to_builds_alone(capsys, command, tmp_path, report, builds) -> None:
    """Nothing is trained again, also without the axes, which the folder has; and builds alone give the same law."""
    status, out, err = run(capsys, *command, "--json")
    assert status == 0
    assert err.count("up to date") == 9
    assert json.loads(out)["law"] == report["law"]
    status, out, _ = run(capsys, "scale", "--runs", *builds, "--output", tmp_path / "alone", "--json")
    assert status == 0
    assert json.loads(out)["law"]["irreducible"]["value"] == pytest.approx(
        report["law"]["irreducible"]["value"], rel=1e-3
    )
    assert not (tmp_path / "alone/runs").exists()


@pytest.fixture
def builds(tiny_build, tmp_path) -> list[Path]:
    """The summaries of nine builds whose losses follow a law."""
    summary = json.loads((tiny_build / "summary.json").read_text())
    folders = []
    for parameters in (100_000, 200_000, 400_000):
        for tokens in (1_000_000, 2_000_000, 4_000_000):
            loss = LAW.loss(parameters, tokens)
            summary["stages"]["pretrain"] |= {"parameters": parameters, "tokens": tokens, "loss": loss}
            folders.append(tmp_path / f"{parameters}-{tokens}")
            folders[-1].mkdir()
            (folders[-1] / "summary.json").write_text(json.dumps(summary))
    return folders


def changed(folder: Path, to: Path, **figures: object) -> Path:
    """A copy with other figures of pre-training, or with another tokenizer."""
    to.mkdir()
    summary = json.loads((folder / "summary.json").read_text())
    if digest := figures.pop("tokenizer", None):
        next(one for one in summary["lineage"] if one["stage"] == "tokenizer")["digest"] = digest
    summary["stages"]["pretrain"] |= figures
    (to / "summary.json").write_text(json.dumps(summary))
    return to


def test_a_law_is_fitted_to_builds_that_are_there(capsys, builds, tmp_path):
    words = ("scale", "--runs", *builds, "--output", tmp_path / "law", "--predict", "1m:10m")
    status, out, err = run(capsys, *words, "--json")
    assert status == 0
    report = json.loads(out)
    assert report["law"]["size_exponent"]["value"] == pytest.approx(LAW.size_exponent, rel=1e-3)
    assert report["predictions"][0]["loss"]["value"] == pytest.approx(LAW.loss(1e6, 1e7), rel=1e-4)
    assert report["check"]["error"] == pytest.approx(0, abs=1e-4)
    assert f"report: {tmp_path / 'law/law/report.html'}" in err
    assert parakit.scale(out=tmp_path / "law", runs=builds, predict=[("1m", 10_000_000)]) == report | {
        "failed": []
    }
    status, out, err = run(capsys, *words)
    assert (status, out) == (0, "")
    assert "The best split of more compute" in err


def test_builds_that_do_not_belong_to_one_law_are_refused(capsys, builds, tmp_path):
    def refusal(*folders: Path) -> str:
        status, _, err = run(capsys, "scale", "--runs", *folders, "--output", tmp_path / "law")
        assert status == 2
        return err

    assert "it takes 6 runs at least, of 3 sizes and 3 numbers of tokens" in refusal(*builds[:4])
    other = changed(builds[0], tmp_path / "other", tokenizer="another")
    assert f"{other}: has another tokenizer than {builds[0]}" in refusal(*builds, other)
    broken = changed(builds[0], tmp_path / "broken", loss=None)
    assert f"{broken}: its loss is nan: the run diverged" in refusal(*builds, broken)
    assert f"{tmp_path}: is no finished build" in refusal(tmp_path)
    assert not (tmp_path / "law").exists()


def test_a_dry_run_lists_the_runs_and_trains_nothing(capsys, command, tmp_path):
    status, out, _ = run(capsys, *command, *AXES, "--dry-run")
    assert status == 0
    assert out.splitlines()[-1].startswith("9 runs")
    assert not (tmp_path / "family").exists()


def test_a_time_chooses_what_is_not_given(capsys, command):
    status, out, _ = run(
        capsys, *command, "--time", "60s", "--sizes", "34k", "46k", "60k", "--dry-run", "--json"
    )
    assert status == 0
    lengths = {one["values"]["pretrain.max_tokens"] for one in json.loads(out)["runs"]}
    assert len(lengths) == 3
    longest = max(lengths)
    assert {round(longest / length) for length in lengths} == {1, 2, 4}
    status, out, _ = run(capsys, *command, "--time", "60s", "--dry-run", "--json")
    assert status == 0
    assert len({one["values"]["size"] for one in json.loads(out)["runs"]}) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "20k", "--tokens", "1k", "2k", "4k"], "--sizes names 1, and a law takes 3 at least"),
        (["--sizes", "20k", "30k", "40k", "--tokens", "1k", "2k"], "--tokens names 2, and a law takes 3"),
        (["--sizes", "20k", "20k", "40k", "--tokens", "1k", "2k", "4k"], "--sizes: 20,000 is there twice"),
        (["--sizes", "20k", "30k", "40k", "--tokens", "1k", "x", "4k"], "--tokens: 'x' is no count"),
        (
            ["--sizes", "big", "30k", "40k", "--tokens", "1k", "2k", "4k"],
            "size 'big' is not a parameter count",
        ),
        ([*AXES, "--predict", "1m"], "--predict '1m' is not SIZE:COUNT"),
        ([], "neither the sizes and tokens of the family nor a time are given"),
    ],
    ids=str,
)
def test_mistakes_are_refused_before_anything_is_trained(capsys, command, words, message, tmp_path):
    status, _, err = run(capsys, *command, *words)
    assert status == 2
    assert message in err
    assert not (tmp_path / "family").exists()


def test_nothing_to_fit_is_refused(capsys, tmp_path):
    status, _, err = run(capsys, "scale", "--output", tmp_path / "family")
    assert status == 2
    assert "nothing to fit a law to" in err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to fit a law to"),
        ({"runs": ["builds/one"], "sizes": ["1m"]}, "sizes is given, and nothing is trained"),
        ({"recipe": "recipe.yaml", "text": ["notes"]}, "both a recipe and text were given"),
        ({"runs": ["builds/one"], "predict": [("big", "1m")]}, "size 'big' is not a parameter count"),
        ({"runs": ["builds/one"]}, "builds/one: is no finished build"),
    ],
    ids=str,
)
def test_the_function_refuses_what_the_command_refuses(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        parakit.scale(out=tmp_path / "law", **settings)
    assert not (tmp_path / "law").exists()


def test_the_function_plans_the_family_that_the_command_plans(monkeypatch, text, tmp_path):
    planned = []
    monkeypatch.setattr(
        "parakit.recipe.sweeps.scaling.run_sweep", lambda sweep, _: planned.append(sweep) or []
    )
    with pytest.raises(UserError, match="it takes 6 runs at least"):  # none was trained
        parakit.scale(
            text=[text],
            out=tmp_path / "family",
            sizes=[34_000, "46k", "60k"],
            tokens=["1k", 2048, 4096],
            settings={"tokenizer.vocab_size": 300},
        )
    assert planned[0].varied == {"size": ("34000", "46k", "60k"), "pretrain.max_tokens": (1000, 2048, 4096)}
