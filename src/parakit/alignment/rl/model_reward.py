"""A reward function that scores completions with a reward model.

The reward model uses its own tokenizer and template, so it may be of another family than the policy. A conversation excess
its context window loses its beginning, as in the reward model's training; a completion that does not fit alone is an
error that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from parakit.alignment.rl.prompts import SampledCompletion
from parakit.checkpoints.loading import load_model
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.inference.batching import evaluation_mode, pad_rows, rows_by_length
from parakit.inference.capabilities import require_capability
from parakit.model.heads import RewardModel
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import supported_form
from parakit.tokens.preferences.encoding import MIN_PROMPT_TOKENS, truncate_left

MICRO_BATCH_SIZE = 64


class ModelReward:
    """Scores with the reward model in `folder`."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        model, tokenizer = load_model(folder, pick_device(device), "float32")
        require_capability(model, "reward")
        assert isinstance(model, RewardModel)
        if tokenizer is None:
            raise UserError(f"{folder}: has no tokenizer", "a reward model needs its own")
        self.name, self.model, self.tokenizer = str(folder), model.requires_grad_(False), tokenizer

    @torch.no_grad()
    def __call__(self, samples: Sequence[SampledCompletion]) -> list[float]:
        """The reward of each prompt with its completion."""
        rows = [self._ids(sample) for sample in samples]
        rewards = [0.0] * len(rows)
        device = self.model.reward_head.weight.device
        with evaluation_mode(self.model):
            for members in rows_by_length(rows, MICRO_BATCH_SIZE):
                input_ids, real = pad_rows([rows[i] for i in members], device)
                values = self.model(input_ids, attention_mask=real).tolist()
                for i, value in zip(members, values, strict=True):
                    rewards[i] = value
        # equal completions in batches of different shapes differ by rounding: all take the first one's reward
        first: dict[tuple[int, ...], int] = {}
        return [rewards[first.setdefault(tuple(row), i)] for i, row in enumerate(rows)]

    def _ids(self, sample: SampledCompletion) -> list[int]:
        conversation = supported_form(self.tokenizer, sample.conversation())
        chat, limit = compile_chat(self.tokenizer, conversation), self.model.config.max_seq_len
        excess = len(chat.token_ids) - limit
        if excess <= 0:
            return chat.token_ids
        if sum(chat.loss_mask) > limit - MIN_PROMPT_TOKENS:
            raise UserError(
                f"{self.name}: the context window has {limit} tokens, and this has {limit + excess}: {sample.describe()}",
                "lower max_new_tokens",
            )
        return truncate_left(self.tokenizer, chat.token_ids, excess)
