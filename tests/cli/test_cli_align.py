"""`parakit align`: preferences in, a reward model or a policy out; `parakit evaluate` judges the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.checkpoints.loading import read_head
from parakit.cli.main import main
from parakit.common import open_artifact
from parakit.common.seeds import rng
from parakit.training import trainer
from parakit.training.metrics import METRICS, read_metrics
from tests.cli.conftest import WORDS

QUICK = ["--max-steps", "2", "--batch-examples", "4", "--compile", "off"]


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Forty pairs; two rows have nothing to teach."""
    path, rows = tmp_path / "pairs.jsonl", []
    for i in range(42):
        words = [" ".join(rng(i, name).choice(WORDS, 3)) for name in ("question", "good", "bad")]
        row: dict[str, Any] = dict(zip(("prompt", "chosen", "rejected"), words, strict=True))
        rows.append(row if i < 40 else row | {"rejected": row["chosen"]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_reward_model_is_trained_and_judged(capsys, tiny_build, pairs, tmp_path):
    base, out = open_artifact(tiny_build / "pretrain"), tmp_path / "judge"
    arguments = ["align", base.path, "--method", "reward", "--preferences", pairs, "--output", out, *QUICK]
    status, printed, _ = run(capsys, *arguments, "--json")
    assert status == 0
    assert json.loads(printed)["loss_unit"] == "nats per ranking"
    assert {"calibration_error", "length_baseline", "length_correlation"} <= json.loads(printed)[
        "reward_eval"
    ].keys()
    assert read_head(out).kind == "reward_model"
    assert open_artifact(base.path).digest == base.digest
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.jsonl", "judge"}
    status, printed, err = run(capsys, "evaluate", out, "--preferences", pairs, "--json")
    found = json.loads(printed)["preferences"]
    assert (status, found["pairs"]) == (0, 40)
    assert found["low"] <= found["accuracy"] <= found["high"]
    assert "2 left out: the answers are the same" in err
    status, _, err = run(capsys, "evaluate", base.path, "--preferences", pairs)
    assert (status, "cannot score completions" in err) == (2, True)


@pytest.mark.parametrize("loss", ["dpo", "simpo"])
def test_a_policy_is_tuned_on_a_folder_of_preferences(capsys, tiny_build, pairs, tmp_path, loss):
    folder, out = tmp_path / "set", tmp_path / "policy"
    assert run(capsys, "text", "--preferences", pairs, "--output", folder, "--test-fraction", 0)[0] == 0
    arguments = ["align", tiny_build, "--method", "dpo", "--preferences", folder, "--output", out, *QUICK]
    assert run(capsys, *arguments, "--preference-loss", loss)[0] == 0
    made = open_artifact(out, "model").lineage
    assert (made["config"]["objective"], made["config"]["chat"]) == ("dpo", True)
    assert open_artifact(folder).digest in [parent["digest"] for parent in made["parents"]]
    assert {"margin", "accuracy"} <= set(made["result"])


def test_stopped_and_begun_again_it_ends_as_if_it_had_not_been(
    capsys, tiny_build, pairs, tmp_path, monkeypatch
):
    arguments = ["align", tiny_build / "pretrain", "--method", "dpo", "--preferences", pairs]
    arguments += [*QUICK, "--max-steps", "4", "--save-every", "1"]
    assert run(capsys, *arguments, "--output", tmp_path / "whole")[0] == 0
    steps = trainer.Trainer.steps

    def broken(self):
        for record in steps(self):
            yield record
            if record.step == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(trainer.Trainer, "steps", broken)
    assert run(capsys, *arguments, "--output", tmp_path / "cut")[0] == 130
    assert not (tmp_path / "cut").exists()
    monkeypatch.setattr(trainer.Trainer, "steps", steps)
    status, _, err = run(capsys, *arguments, "--output", tmp_path / "cut")
    assert status == 0
    assert "resuming after step 2 of 4" in err
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--method", "reward"], "no preferences were given"),
        (["--method", "reward", "--preferences", "absent.jsonl"], "absent.jsonl"),
        (["--method", "dpo", "--preferences", "bad.jsonl"], "bad.jsonl, row 1: no 'rejected'"),
        (["--method", "dpo", "--preferences", "pairs.jsonl", "--reward", "x"], "--reward is set"),
        (
            ["--method", "dpo", "--preferences", "pairs.jsonl", "--monitor-rewards", "x"],
            "--monitor-rewards is set",
        ),
        (["--method", "dpo", "--preferences", "pairs.jsonl", "--prompts", "x"], "--prompts is set"),
        (["--method", "reward", "--preferences", "pairs.jsonl", "--kl-limit", "1"], "--kl-limit is set"),
        (
            ["--method", "dpo", "--preferences", "pairs.jsonl", "--reward-centering-coef", "1"],
            "--reward-centering-coef is set",
        ),
        (["--method", "reward", "--preferences", "pairs.jsonl", "--kl-coef", "1"], "--kl-coef is set"),
        (
            ["--method", "dpo", "--preferences", "pairs.jsonl", "--preference-loss", "ipo", "--margin", "1"],
            "--margin is set but has no effect: it belongs to preference_loss dpo and simpo",
        ),
        (["--method", "dpo", "--preferences", "pairs.jsonl", "--seq-len", "4"], "can be learned from within"),
    ],
)
def test_a_mistake_leaves_nothing(capsys, tiny_build, pairs, tmp_path, monkeypatch, flags, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "Hi", "chosen": "Hello"}\n')
    status, out, err = run(capsys, "align", tiny_build / "pretrain", *flags, "--output", "new/out", *QUICK)
    assert (status, out) == (2, "")
    assert told in err
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.jsonl", "bad.jsonl"}


def test_every_step_tells_how_many_pairs_are_right_and_what_was_left_out_is_said(
    capsys, tiny_build, pairs, tmp_path
):
    for method, figures in (
        ("dpo", {"accuracy", "margin", "logp_accuracy", "drift"}),
        ("reward", {"accuracy", "margin", "reward"}),
    ):
        out = tmp_path / method
        arguments = ["align", tiny_build, "--method", method, "--preferences", pairs, "--output", out, *QUICK]
        status, printed, err = run(capsys, *arguments, "--json")
        assert status == 0
        rows = read_metrics(out / "training" / METRICS)
        assert {row["kind"] for row in rows} == {"step", "validation"}
        assert all(figures <= row.keys() for row in rows)
        assert "2 left out: the answers are the same (pairs.jsonl, row 41, pairs.jsonl, row 42)" in err
        assert "accuracy 0." in err or "accuracy 1." in err
        assert json.loads(printed)["before"]["accuracy"] == 0.5
        assert (
            rows[0]["accuracy"] == 0.5
        )  # before the first step nothing leads, and the doctor's trials are no step's


def test_rankings_that_people_made_go_into_the_reward_model_and_into_dpo(capsys, tiny_build, tmp_path):
    """Ranked answers, scored ones and ranks in one file, as they are gathered elsewhere."""
    file, rows = tmp_path / "ranked.jsonl", []
    for i in range(12):
        answers = [" ".join(rng(i, k).choice(WORDS, 3)) for k in range(3)]
        shape = (
            {"ranking": answers},
            {"completions": answers, "ranks": [2, 1, 3]},
            {"completions": answers, "rewards": [0.1, 2, -1]},
        )
        rows.append({"prompt": f"the bird {i}", "annotator": "x7"} | shape[i % 3])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for method in ("reward", "dpo"):
        arguments = [
            "align",
            tiny_build,
            "--method",
            method,
            "--preferences",
            file,
            "--output",
            tmp_path / method,
        ]
        status, printed, _ = run(capsys, *arguments, *QUICK, "--json")
        assert status == 0
        assert 0 <= json.loads(printed)["accuracy"] <= 1
    status, printed, _ = run(capsys, "evaluate", tmp_path / "reward", "--preferences", file, "--json")
    found = json.loads(printed)["preferences"]
    assert (found["rankings"], found["pairs"]) == (12, 36)
    assert {"calibration_error", "length_baseline", "length_correlation"} <= found.keys()


def test_prompts_of_several_files_and_rewards_that_are_all_the_same(capsys, tiny_build, chats, tmp_path):
    more, out = tmp_path / "more.jsonl", tmp_path / "policy"
    more.write_text('{"messages": [{"role": "user", "content": "who sees the bird"}]}\n')
    arguments = ["align", tiny_build, "--method", "grpo", "--prompts", chats, more, "--output", out]
    arguments += ["--reward", "format=.*", "--max-new-tokens", 3, "--rollout-prompts", 2, "--group-size", 2]
    status, printed, err = run(capsys, *arguments, "--max-steps", 2, "--json")
    assert status == 0
    assert json.loads(printed)["zero_variance_groups"] == 1
    assert "in 100% of the groups all completions had the same reward, and gave no gradient" in err


def test_a_constitution_follows_no_reward(capsys, tiny_build, pairs, tmp_path):
    flags = ["--method", "constitution", "--prompts", pairs, "--output", tmp_path / "out"]
    status, _, err = run(capsys, "align", tiny_build / "pretrain", *flags, "--monitor-rewards", "length=3")
    assert status == 2
    assert "--monitor-rewards is set" in err
    assert "choose one of ppo, grpo, best_of_n" in err
