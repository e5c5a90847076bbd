"""`parakit plan` on the command line: tables, JSON, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.cli.main import main
from parakit.common.artifacts import open_artifact
from parakit.planning.calibration import MeasuredSpeeds
from tests.planning.test_planning_step_time import FLAT


@pytest.fixture(autouse=True)
def _calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the machine had been measured: how it is measured has a test of its own."""
    from parakit.stages.planning import measuring

    def stored(recalibrate: bool = False) -> MeasuredSpeeds:
        return FLAT

    monkeypatch.setattr(measuring, "calibration", stored)


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_gpt3_on_a_thousand_cards(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--size", "gpt-3", "--tokens", "300b", "--gpu", "h100", "--n-gpus", "1024", "--sharding", "full")
    found = planned(capsys, *words)
    assert found["parameters"]["total"] == pytest.approx(175e9, rel=0.005)
    assert found["operations"]["six_nd"] == pytest.approx(3.14e23, rel=0.01)
    assert found["cost"]["rent_usd"] == pytest.approx(found["cost"]["device_hours"] * 2.99)
    assert found["run"]["precision"] == "bfloat16"
    assert found["expected_loss"]["is_extrapolated"]


def test_a_table_shows_parts_memory_time_and_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--size", "5m"]) == 0
    out = capsys.readouterr().out
    for words in (
        "feed forward",
        "peak",
        "tokens per second",
        "by the rule 6 N D",
        "Chinchilla",
        "it fits",
    ):
        assert words in out


@pytest.mark.parametrize("method", ["full", "lora", "prompt", "qlora", "dpo", "grpo", "distill", "inference"])
def test_every_method_is_planned(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--teacher", "20m"] if method == "distill" else []
    found = planned(capsys, "--size", "5m", "--method", method, *more)
    assert found["seconds"]["step"] > 0
    assert found["memory"]["peak"] > found["memory"]["weights"]
    assert found["fits"]


def test_what_does_not_fit_names_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--size", "llama-2-7b", "--method", "full", "--gpu", "rtx-4090"]) == 0
    assert "the nearest that does: --method" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [("--time", "2h"), ("--budget", "50", "--gpu", "h100"), ("--time", "1h", "--gpu", "l4")]
)
def test_the_best_in_a_time_and_for_money(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, *words)
    assert found["fits"]
    assert found["tokens"] > 10 * found["parameters"]["total"]


def test_the_largest_in_a_memory(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "--memory", "8GiB")
    assert {row["method"] for row in found["largest"]} >= {"full", "lora", "qlora", "inference"}
    assert main(["plan", "--memory", "8GiB"]) == 0
    assert "the largest models in 8.59 GB" in capsys.readouterr().out


def test_the_bill_of_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A sentence of a text. " * 1000)
    found = planned(capsys, "--tokens", str(text), "--prices", "gpt-4o", "--output-share", "0.5")
    (bill,) = found["bills"]
    assert bill["usd"] == pytest.approx(found["tokens"]["n"] * (2.5 + 0.5 * 10) / 1e6)
    assert main(["plan", "--tokens", str(text)]) == 0
    assert "estimate" in capsys.readouterr().out


def test_a_tokenizer_counts_exactly(
    tiny_build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

    text = tmp_path / "text.txt"
    text.write_text("The small bird sees the old tree.\n")
    found = planned(capsys, "--tokens", str(text), "--tokenizer", str(tiny_build / "tokenizer"))["tokens"]
    assert (
        found["n"] == found["low"] == len(Tokenizer.load(tiny_build / "tokenizer").encode(text.read_text()))
    )


def test_a_recipe_stage_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "recipes/primer.yaml")
    assert [stage["stage"] for stage in found["stages"]] == ["pretrain", "finetune", "dpo", "distill"]
    assert all(stage["plan"]["seconds"]["all"] > 0 for stage in found["stages"])
    assert main(["plan", "recipes/primer.yaml", "--gpu", "l4"]) == 0
    assert "training in all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to plan"),
        (("--size", "5m", "--time", "10min"), "--size and --time are given"),
        (("--size", "5m", "--gpu", "h10"), "no card 'h10'"),
        (("--time", "soon"), "is not a length of time"),
        (("--budget", "50"), "no price of an hour"),
        (("--budget", "-3", "--gpu", "h100"), "not an amount of US dollars"),
        (("--memory", "1kB"), "nothing fits into"),
        (("--time", "1s", "--vocab-size", "50000"), "nothing fits"),
        (("--tokens", "no-such-file"), "neither a number nor a file"),
        (("--size", "5m", "--method", "distill"), "needs a teacher"),
        (("--size", "5m", "--n-gpus", "2"), "no effect"),
        (("--size", "5m", "--tokens", "0"), "not a number of tokens"),
    ],
)
def test_mistakes_are_explained(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_trained_model_says_what_it_took_and_what_was_planned(tiny_build: Path) -> None:
    folder = tiny_build / "pretrain"
    result = open_artifact(folder).lineage["result"]
    assert result["peak_memory_bytes"] > 1e8  # of a process that ran many tests before
    assert result["predicted_peak_bytes"] > 1e8
    card = (folder / "README.md").read_text()
    assert "- Peak memory: " in card
    assert "(predicted " in card
    assert "- Time of a step: " in card
