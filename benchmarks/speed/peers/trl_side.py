"""trl's side of `against_trl`: its SFTTrainer, DPOTrainer, RewardTrainer and GRPOTrainer on the same folders and data.
Imports nothing of Parakit's. What a reference says to pairs is computed once before training, as on our side.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

from benchmarks.speed.peers.tuning_shared import Clock, near_twelve_words

Figures = dict[str, Any]


class OveroptimizationMonitor(TrainerCallback):
    """Tells a clock when steps ended."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.step_ended()


def main(task: str, folder: Path, seed: int = 0) -> Figures:
    """Train, and return the figures."""
    torch.set_num_threads(1)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    clock = Clock()
    trainers: dict[str, Callable[..., Any]] = {
        "sft": _sft, "dpo": _dpo, "reward": _reward, "grpo": _grpo, "given": _given,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        shared: dict[str, Any] = {
            "output_dir": out, "seed": seed, "learning_rate": settings["learning_rate"], "lr_scheduler_type": "constant",
            "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0, "adam_beta2": 0.999, "logging_steps": 1,
            "save_strategy": "no", "report_to": "none", "use_cpu": True, "bf16": False,
            "gradient_checkpointing": False, "disable_tqdm": True, "max_steps": settings["n_steps"],
            "per_device_train_batch_size": settings["n_rows"],
        }  # fmt: skip
        trainer, n_rows = trainers[task](folder, settings, shared)
        trainer.add_callback(OveroptimizationMonitor(clock))
        trainer.train()
    log = trainer.state.log_history
    figures = {"losses": [row["loss"] for row in log if "loss" in row]} | clock.speed(n_rows)
    if task == "grpo":
        figures["rewards"] = [row["reward"] for row in log if "reward" in row]
        figures["lengths"] = [row["completions/mean_length"] for row in log if "reward" in row]
    return figures


def _sft(folder: Path, settings: Figures, shared: Figures) -> tuple[Any, int]:
    model, tokenizer = _policy(folder / "lm")
    rows = _rows(folder / "conversations.jsonl")
    content_template = (
        "{{- ' ' + message['content'] -}}{{- '<|end|>' -}}"  # trl has to know which part is the assistant's
    )
    marked = f"{{%- generation -%}}{content_template}{{%- endgeneration -%}}"
    assert content_template in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(
        content_template,
        f"{{%- if message['role'] == 'assistant' -%}}{marked}{{%- else -%}}{content_template}{{%- endif -%}}",
    )
    shared = shared | {"per_device_train_batch_size": len(rows)}
    config = trl.SFTConfig(assistant_only_loss=True, max_length=None, **shared)
    return _trainer(trl.SFTTrainer, model, tokenizer, config, rows), len(rows)


def _dpo(folder: Path, settings: Figures, shared: Figures) -> tuple[Any, int]:
    model, tokenizer = _policy(folder / "lm")
    config = trl.DPOConfig(
        beta=settings["dpo_kl_coef"], precompute_ref_log_probs=True, max_length=None, **shared
    )
    rows = _rows(folder / "pairs.jsonl")
    return _trainer(trl.DPOTrainer, model, tokenizer, config, rows), settings["n_rows"]


def _reward(folder: Path, settings: Figures, shared: Figures) -> tuple[Any, int]:
    model = AutoModelForSequenceClassification.from_pretrained(
        folder / "rm", num_labels=1, dtype=torch.float32
    )
    tokenizer, rows = AutoTokenizer.from_pretrained(folder / "rm"), _rows(folder / "pairs.jsonl")
    config = trl.RewardConfig(max_length=None, **shared)
    return _trainer(trl.RewardTrainer, model, tokenizer, config, rows), settings["n_rows"]


def _grpo(folder: Path, settings: Figures, shared: Figures, **changes: Any) -> tuple[Any, int]:
    model, tokenizer = _policy(folder / "chat")
    grpo = settings["grpo"]
    n_rows = grpo["rollout_prompts"] * grpo["group_size"]
    rows = [{"prompt": row["messages"]} for row in _rows(folder / "prompts.jsonl")]
    rollouts = changes.pop("rollouts", None)
    shared = shared | {"max_steps": settings["grpo_steps"], "learning_rate": settings["grpo_rate"]} | changes
    config = trl.GRPOConfig(
        num_generations=grpo["group_size"], max_completion_length=grpo["max_new_tokens"], beta=grpo["kl_coef"],
        temperature=grpo["temperature"], top_p=grpo["top_p"], top_k=0, epsilon=grpo["clip_range"],
        loss_type="grpo", scale_rewards="group",
        use_bias_correction_kl=False, **shared | {"per_device_train_batch_size": n_rows},
    )  # fmt: skip

    def rewards(completions: list[Any], **_: Any) -> list[float]:
        return [near_twelve_words(one[0]["content"]) for one in completions]

    extra = {"reward_funcs": rewards} | ({"rollout_func": rollouts} if rollouts else {})
    return _trainer(trl.GRPOTrainer, model, tokenizer, config, rows, **extra), n_rows


def _given(folder: Path, settings: Figures, shared: Figures) -> tuple[Any, int]:
    """Some steps on completions that are given, instead of the policy's own."""
    given = json.loads((folder / "given.json").read_text(encoding="utf-8"))["token_ids"]
    size, epochs = settings["grpo"]["group_size"], settings["grpo_epochs"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "chat")
    all_prompts = [row["messages"] for row in _rows(folder / "prompts.jsonl")]
    answers = {
        json.dumps(prompt): given[i * size : (i + 1) * size]
        for i, prompt in enumerate(all_prompts[: len(given) // size])
    }

    def rollouts(prompts: list[Any], _: Any) -> Figures:
        ids = [
            tokenizer.apply_chat_template(one, add_generation_prompt=True, return_dict=False)
            for one in prompts
        ]
        taken = {key: iter(value) for key, value in answers.items()}
        completion_ids = [next(taken[json.dumps(one)]) for one in prompts]
        return {"prompt_ids": ids, "completion_ids": completion_ids, "logprobs": None}

    return _grpo(
        folder, settings, shared,
        rollouts=rollouts, num_iterations=epochs, max_steps=epochs, shuffle_dataset=False,
    )  # fmt: skip


def _policy(place: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(place)


def _trainer(kind: Any, model: Any, tokenizer: Any, config: Any, rows: list[Figures], **extra: Any) -> Any:
    return kind(
        model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, **extra
    )


def _rows(path: Path) -> list[Figures]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))))
