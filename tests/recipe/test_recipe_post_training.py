"""The stages behind tuning: what they need, in which order they stand, and a whole life in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.checkpoints import load_model, read_config
from parakit.common import UserError, open_artifact
from parakit.recipe import RecipeConfig, build, built_in_recipe, load_recipe
from parakit.recipe.stage_list import models_of, stages_of

PREFERENCES = {"primer": {"n_examples": 40, "n_test_examples": 4}}
LIFE: dict[str, Any] = {
    "size": "60k",
    "text.primer.n_documents": 120,
    "tokenizer.vocab_size": 400,
    "pretrain.max_tokens": None,
    "pretrain.max_steps": 2,
    "pretrain.batch_tokens": 384,
    "conversations.primer.n_conversations": 60,
    "finetune.epochs": None,
    "finetune.max_steps": 1,
    "finetune.batch_tokens": 384,
    "preferences": PREFERENCES,
    "align": [
        {"method": "reward", "max_steps": 1, "batch_examples": 2},
        {"method": "dpo", "max_steps": 1, "batch_examples": 2},
        {"method": "grpo", "max_steps": 1, "rollout_prompts": 2, "group_size": 2, "max_new_tokens": 4},
    ],
    "distill": {"max_steps": 1, "batch_tokens": 384, "keep_layers": 1},
    "evaluate.max_new_tokens": 1,
    "evaluate.suites.n_suite_items": 8,
    "prompts": ["One morning"],
    "questions": ["What is your name?"],
}


def life(**changes: Any) -> RecipeConfig:
    """The tiny life; a change of None takes the key out."""
    overrides = {key.replace("__", "."): value for key, value in (LIFE | changes).items()}
    return load_recipe(built_in_recipe(), overrides)


def test_the_stages_stand_in_the_order_of_a_life_each_behind_what_it_reads(tmp_path: Path) -> None:
    stages = stages_of(life(), tmp_path)
    names = [stage.name for stage in stages]
    assert names[-7:] == ["finetune", "preferences", "reward", "dpo", "grpo", "distill", "evaluate"]
    for number, stage in enumerate(stages):
        assert set(stage.parents) <= set(names[:number]), stage.name
    parents = {stage.name: stage.parents for stage in stages}
    assert parents["dpo"] == ("finetune", "preferences")
    assert parents["grpo"] == ("dpo", "conversations", "reward"), (
        "rewarded by the model that a step before made"
    )
    assert parents["distill"] == ("grpo", "conversation_shards")
    assert models_of(life()) == {
        "base": "pretrain",
        "tuned": "finetune",
        "dpo": "dpo",
        "grpo": "grpo",
        "distill": "distill",
    }


def test_the_last_model_is_quantized_with_the_suites_of_the_evaluation(tmp_path: Path) -> None:
    recipe = life(quantize={"bits": 4, "method": "gptq"}, seed=7)
    *_, stage, evaluate = stages_of(recipe, tmp_path)
    assert (stage.name, stage.parents) == ("quantize", ("distill",))
    assert "quantize" in evaluate.parents
    assert stage.settings["suites"]["n_suite_items"] == 8
    assert stage.settings["quantization"]["seed"] == 7
    assert models_of(recipe)["quantize"] == "quantize"
    assert stages_of(life(quantize={"bits": 8}, distill=None), tmp_path)[-2].parents == ("grpo",)


def test_a_step_that_names_its_reward_needs_no_reward_model(tmp_path: Path) -> None:
    step = {"method": "grpo", "reward": "final_answer", "max_steps": 1}
    stages = stages_of(life(align=[step], preferences=None), tmp_path)
    grpo = next(stage for stage in stages if stage.name == "grpo")
    assert grpo.parents == ("finetune", "conversations")
    assert grpo.settings["training"]["reward"] == "final_answer"


def test_a_change_of_a_step_changes_its_key_and_no_earlier_one(tmp_path: Path) -> None:
    steps = [dict(step) for step in LIFE["align"]]
    steps[1]["max_steps"] = 2
    before = {stage.name: stage.settings for stage in stages_of(life(), tmp_path)}
    after = {stage.name: stage.settings for stage in stages_of(life(align=steps), tmp_path)}
    assert [name for name in before if before[name] != after[name]] == ["dpo"]


def test_another_judge_is_part_of_a_step_s_key_where_there_is_one(tmp_path: Path) -> None:
    steps = [dict(step) for step in LIFE["align"]]
    plain = {stage.name: stage.settings for stage in stages_of(life(), tmp_path)}
    steps[2]["monitor_rewards"] = ["final_answer"]
    judged = {stage.name: stage.settings for stage in stages_of(life(align=steps), tmp_path)}
    assert judged["grpo"]["training"] == plain["grpo"]["training"] | {"monitor_rewards": ["final_answer"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preferences": None}, "learns from `preferences`, but there is no such section"),
        ({"align": []}, "nothing in `align` learns from them"),
        ({"align": LIFE["align"][1:]}, "method 'grpo' has no reward"),
        ({"align": [LIFE["align"][1]] * 2}, "has the method 'dpo' twice"),
        ({"distill": {"keep_layers": 1, "size": "30k"}}, "both set what the student is"),
        ({"preferences": {}}, "give either paths or a primer"),
        ({"quantize": {}}, "neither `bits` nor `size_budget` is set"),
        ({"align": [{"method": "dqo"}]}, "dpo"),
        ({"align": [{"max_steps": 1}]}, "method"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_any_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        life(**changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"align": [{"method": "dpo", "clip_range": 0.1}]}, "align.0.clip_range"),
        ({"align": [{"method": "dpo", "reward": "final_answer"}]}, "align.0.reward"),
        ({"align": [{"method": "dpo", "monitor_rewards": ["final_answer"]}]}, "align.0.monitor_rewards"),
        ({"align": [{"method": "dpo", "prompts": ["chats.jsonl"]}]}, "align.0.prompts"),
        ({"distill": {"teacher_share": 0.4}}, "distill.teacher_share"),
        ({"distill": {"optimizer": "adamw", "momentum": 0.9}}, "distill.momentum"),
        ({"quantize": {"bits": 8, "damping": 0.1}}, "quantize.damping"),
        ({"preferences": {"primer": {"n_documents": 5}}}, "preferences.primer.n_documents"),
    ],
)
def test_a_key_that_nothing_reads_is_an_error(changes: dict[str, Any], key: str, tmp_path: Path) -> None:
    if "prompts" in key:
        path = tmp_path / "chats.jsonl"
        path.write_text('{"messages": [{"role": "user", "content": "Hello"}]}\n', encoding="utf-8")
        changes["align"][0]["prompts"] = [str(path)]
    with pytest.raises(UserError, match=rf"(unknown key `{key}`|`{key}` is set but)"):
        life(**changes)


def test_alignment_needs_a_model_that_answers() -> None:
    recipe = {"text": {"paths": ["x.txt"]}, "align": [{"method": "dpo"}], "preferences": PREFERENCES}
    with pytest.raises(UserError, match="`align` needs a chat-tuned model"):
        RecipeConfig.parse(recipe)


def test_a_classifier_is_not_distilled() -> None:
    recipe = {
        "family": "encoder",
        "finetune": {"task": "classify"},
        "examples": {"paths": ["x.csv"]},
        "distill": {},
    }
    with pytest.raises(UserError, match="fine-tuned for 'classify'"):
        RecipeConfig.parse(recipe)


def test_a_whole_life_in_one_command(tmp_path: Path) -> None:
    quantize = {
        "bits": 8,
        "n_measured_tokens": 64,
        "accept_loss": True,
    }  # a suite of 8 questions falls by chance
    summary = build(life(quantize=quantize), tmp_path).to_dict()
    folder = tmp_path / "primer"
    assert list(summary["models"]) == ["base", "tuned", "dpo", "grpo", "distill", "quantize"]
    assert summary["stages"]["quantize"]["quantization"]["size"]["ratio"] > 3
    assert 'id="quantization"' in (folder / "report.html").read_text(encoding="utf-8")
    for results in summary["suites"].values():
        assert list(results) == list(summary["models"])
    against = summary["against_parent"]
    assert {name: found["parent"] for name, found in against.items()} == {
        "tuned": "base",
        "dpo": "tuned",
        "grpo": "dpo",
        "distill": "grpo",
        "quantize": "distill",
    }
    for name, stage in summary["models"].items():
        model, tokenizer = load_model(folder / stage)
        assert tokenizer is not None, name
        assert model.config.n_params()["total"] == summary["stages"][stage]["parameters"]
    assert read_config(folder / "distill").n_layers == 1
    rows = {row["stage"]: row for row in summary["lineage"]}
    assert rows["dpo"]["digest"] in rows["grpo"]["parents"]
    assert rows["reward"]["digest"] in rows["grpo"]["parents"]
    assert rows["grpo"]["digest"] in rows["distill"]["parents"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in ("Effect of each stage", "after DPO", "Distillation", "Reward modelling"):
        assert words in page, words
    assert not list((folder / "work").glob("*")) if (folder / "work").exists() else True
    kept = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert kept["models"] == summary["models"]
    digests = {name: open_artifact(folder / name).digest for name in rows}
    again = build(life(quantize=quantize), tmp_path).to_dict()
    assert {name: open_artifact(folder / name).digest for name in rows} == digests, "nothing was made anew"
    assert again["suites"] == summary["suites"]
