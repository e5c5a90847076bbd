"""A reward that was learnt from preferences: a reward model's folder judges each conversation as a whole.

The reward model reads with its own tokenizer and template, so it may be another model than the policy. A conversation
that is longer than its context window loses its beginning, as in the reward model's own training; a completion that
does not fit by itself is an error that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from parakit.alignment.rl.prompts import SampledCompletion
from parakit.checkpoints.model_folder import load_model
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.batching import evaluation_mode, pad_rows, rows_by_length
from parakit.inference.capabilities import require_capability
from parakit.model.heads import RewardModel
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.preferences.encoding import MIN_PROMPT_TOKENS, truncate_left

MICRO_BATCH_SIZE = 64


class ModelReward:
    """Judges with the reward model in `folder`."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        model, tokenizer = load_model(folder, pick_device(device), "float32")
        require_capability(model, "reward")
        assert isinstance(model, RewardModel)
        if tokenizer is None:
            raise UserError(f"{folder}: has no tokenizer", "a reward model reads with its own")
        self.name, self.model, self.tokenizer = str(folder), model.requires_grad_(False), tokenizer

    @torch.no_grad()
    def __call__(self, samples: Sequence[SampledCompletion]) -> list[float]:
        """The model's number for each prompt with its completion."""
        rows = [self._ids(sample) for sample in samples]
        found = [0.0] * len(rows)
        device = self.model.reward_head.weight.device
        with evaluation_mode(self.model):
            for members in rows_by_length(rows, MICRO_BATCH_SIZE):
                input_ids, real = pad_rows([rows[i] for i in members], device)
                values = self.model(input_ids, attention_mask=real).tolist()
                for i, value in zip(members, values, strict=True):
                    found[i] = value
        return found

    def _ids(self, sample: SampledCompletion) -> list[int]:
        messages = [*sample.messages, Message("assistant", sample.completion)]
        chat, limit = compile_chat(self.tokenizer, messages), self.model.config.max_seq_len
        over = len(chat.token_ids) - limit
        if over <= 0:
            return chat.token_ids
        if sum(chat.loss_mask) > limit - MIN_PROMPT_TOKENS:
            raise UserError(
                f"{self.name}: reads up to {limit} tokens, and this has {limit + over}: {sample.describe()}",
                "lower max_new_tokens",
            )
        return truncate_left(self.tokenizer, chat.token_ids, over)
