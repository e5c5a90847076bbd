"""What the training commands print about a run is the plan that the model's lineage records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.cli.main import main
from parakit.common.artifacts import open_artifact
from parakit.training.plan import TrainingPlan

SET = ("--learning-rate", "0.0123", "--max-steps", "2", "--schedule", "cosine", "--warmup-steps", "1")
SET = (*SET, "--device", "cpu", "--compile", "off")
SMALL = ("--batch-tokens", "64")
LONG = pytest.mark.long


def recorded(folder: Path) -> TrainingPlan:
    return TrainingPlan.parse(open_artifact(folder).lineage["config"]["plan"])


def check(printed: str, folder: Path, unit: str) -> None:
    plan = recorded(folder)
    assert (plan.learning_rate, plan.max_steps, plan.schedule) == (0.0123, 2, "cosine")
    assert plan.describe(unit) in printed
    assert printed.count("learning rate") == 1
    assert "learning rate 0.0123" in printed
    assert "learning rate 0.0123" in (folder / "README.md").read_text()


def commands(build: Path, chats: Path, pairs: Path) -> dict[str, tuple[str, list[str]]]:
    model = str(build / "pretrain")
    tokenizer = str(build / "tokenizer")
    return {
        "pretrain": (
            "tokens",
            [str(build / "shards"), "--tokenizer", tokenizer, "--size", "40k", "--max-seq-len", "32", *SMALL],
        ),
        "finetune": ("tokens", [model, "--conversations", str(chats), *SMALL]),
        "align": ("rankings", [model, "--method", "dpo", "--preferences", str(pairs)]),
        "distill": (
            "tokens",
            [model, "--shards", str(build / "shards"), "--size", "36k", "--may-be-larger", *SMALL],
        ),
    }


@pytest.mark.parametrize(
    "verb", ["pretrain", pytest.param("finetune", marks=LONG), pytest.param("align", marks=LONG), "distill"]
)
def test_a_command_prints_the_settings_that_it_takes(verb, tiny_build, chats, tmp_path, capsys):
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"a bird {i}", "chosen": "the old tree", "rejected": f"a river {i}"} for i in range(40)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    unit, arguments = commands(tiny_build, chats, pairs)[verb]
    out = tmp_path / "out"
    assert main([verb, *arguments, "--output", str(out), *SET]) == 0
    check(capsys.readouterr().err, out, unit)


def test_a_build_prints_what_is_set_and_trains_with_it(text, tiny, tmp_path, capsys):
    settings = [one for one in tiny if not one.startswith("pretrain.max_steps")]
    settings += ["pretrain.learning_rate=0.0123", "pretrain.max_steps=2", "pretrain.schedule=cosine"]
    arguments = ["--name", "b", "--builds", str(tmp_path), "--set", *settings]
    assert main(["build", "--text", str(text), *arguments]) == 0
    check(capsys.readouterr().err, tmp_path / "b" / "pretrain", "tokens")
    assert "learning rate 0.0123" in (tmp_path / "b" / "report.html").read_text()
