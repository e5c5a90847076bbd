"""A tiny policy that says nonsense, prompts for it, and a reward that it can learn: all in milliseconds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parakit.alignment.config import AlignConfig
from parakit.alignment.rl.batches import RolloutMicroBatch
from parakit.alignment.rl.grpo import GRPO, GRPOObjective
from parakit.alignment.rl.ppo import PPO, PPOObjective
from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion, compile_prompts
from parakit.alignment.rl.reward import Reward
from parakit.alignment.rl.rewards import FunctionReward
from parakit.alignment.rl.rollout_source import PolicyRolloutSource
from parakit.alignment.rl.rollouts import frozen_copy, roll_out
from parakit.common.seeds import rng
from parakit.data.conversations.conversation import Conversation, Message
from parakit.model import ActorCritic, DecoderConfig, LanguageModel
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.training.config import TrainingConfig, TrainingPlan, resolve_examples
from parakit.training.parallel.engine import ONE_PROCESS
from parakit.training.parallel.start import make_engine
from parakit.training.trainer import Trainer

WORDS = "the small bird sees a red tree and sings near the old house while raining who where is what"
QUESTIONS = (
    "who sings?",
    "where is the bird?",
    "is it red?",
    "what does the old house see?",
    "how many eggs?",
)


@functools.cache
def tiny_tokenizer() -> Tokenizer:
    words = WORDS.split()
    generator = rng(0, "tokenizer text")
    texts = [" ".join(generator.choice(words, 12)) for _ in range(60)]
    return train_tokenizer(iter(texts), TokenizerConfig(kind="byte_bpe", vocab_size=300))


def tiny_policy(dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> LanguageModel:
    """Every matrix is drawn: a fresh model's blocks would add nothing to the residual stream."""
    settings: dict[str, Any] = {
        "d_model": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_ff": 24, "max_seq_len": 48,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = LanguageModel(DecoderConfig(vocab_size=tiny_tokenizer().vocab_size, **settings | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return model.to(dtype).eval()


def tiny_conversations() -> list[Conversation]:
    return [Conversation((Message("user", text), Message("assistant", "bird"))) for text in QUESTIONS]


def tiny_prompts() -> list[RLPrompt]:
    return compile_prompts(tiny_tokenizer(), tiny_conversations(), 36, "test")


def tiny_config(method: Any = "grpo", **changes: Any) -> Any:
    settings = {
        "rollout_prompts": 4,
        "group_size": 4,
        "minibatches": 2,
        "max_new_tokens": 6,
        "ppo_epochs": 2,
    }
    return AlignConfig.parse(settings | {"method": method, "seed": 3} | changes)


def letters(sample: SampledCompletion) -> float:
    return float(sum(letter in "aeiou" for letter in sample.completion))


def tiny_plan(config: Any, **changes: Any) -> TrainingPlan:
    settings = {
        "max_steps": 12,
        "warmup_steps": 0,
        "seed": 5,
        "device": "cpu",
        "compile": "off",
        "save_every": 1,
    }
    return resolve_examples(
        TrainingConfig.parse(settings | changes),
        learning_rate=0.01,
        embedding_learning_rate=0.002,
        max_seq_len=48,
        n_train_examples=config.n_rows,
        batch_examples=config.n_rows,
    )


def tiny_trainer(
    folder: Path | None,
    method: Any = "grpo",
    reward: Reward | None = None,
    plan: dict[str, Any] | None = None,
    policy: LanguageModel | None = None,
    in_all_processes: bool = False,
    **changes: Any,
) -> Trainer:
    config = tiny_config(method, **changes)
    policy = policy or tiny_policy()
    reference = frozen_copy(policy)
    trained: Any = ActorCritic(policy) if method == "ppo" else policy
    algorithm: Any = PPO(config) if method == "ppo" else GRPO(config)
    objective: Any = (
        PPOObjective(config) if method == "ppo" else GRPOObjective(config, algorithm.kl_controller)
    )

    def roll(prompts: Sequence[RLPrompt], phase: int, part: slice) -> Any:
        settings = (config, phase, algorithm.needs_values)
        return roll_out(trained, reference, tiny_tokenizer(), prompts, *settings, part=part)

    reward = reward or FunctionReward("vowels", letters)
    source = PolicyRolloutSource(tiny_prompts(), roll, reward, algorithm, objective.metrics, config)
    settings = tiny_plan(config, **plan or {})
    engine = make_engine(settings, 0) if in_all_processes else ONE_PROCESS
    return Trainer(trained, source, objective, settings, folder, engine=engine)


def weights(trainer: Trainer) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in trainer.model.state_dict().items()}


def random_micro_batch(n_counted: int | None = None, seed: int = 0, **changes: Any) -> RolloutMicroBatch:
    """Rows of unlike length in float64, with numbers that no policy made: clipping is met on both sides."""
    generator = np.random.default_rng(seed)
    n, longest, vocab_size = 5, 9, tiny_tokenizer().vocab_size
    loss_mask = np.zeros((n, longest), bool)
    for row in range(n):
        begin = generator.integers(1, 4)
        loss_mask[row, begin : generator.integers(begin + 1, longest + 1)] = True
    ids = torch.from_numpy(generator.integers(0, vocab_size, (n, longest + 1)))
    numbers = {
        name: torch.from_numpy(generator.normal(size=(n, longest)))
        for name in ("log_probs", "reference_log_probs", "advantages", "values", "returns")
    }
    named: dict[str, Any] = {
        "input_ids": ids[:, :-1],
        "target_ids": ids[:, 1:],
        "loss_mask": torch.from_numpy(loss_mask),
        "weights": torch.from_numpy(loss_mask.astype(float)),
        "n_counted": int(loss_mask.sum()) if n_counted is None else n_counted,
        **numbers,
    }
    return RolloutMicroBatch(**named | changes)
