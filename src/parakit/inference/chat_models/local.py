"""A local model folder as a chat model. Choices are scored by their log-likelihoods, normalised over the choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from parakit.checkpoints.loading import load_model
from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import require_capability
from parakit.inference.chat_models.chat_model import Messages
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate_batch, prompt_ids
from parakit.inference.scoring import log_likelihoods
from parakit.inference.tool_calls.replies import read_reply
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class LocalChatModel:
    """A decoder with its tokenizer."""

    model: LanguageModel
    tokenizer: Tokenizer
    name: str = "model"

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> LocalChatModel:
        """`UserError` for a folder without a generating model or without a tokenizer."""
        return cls.wrap(*load_model(folder, device), str(folder))

    @classmethod
    def wrap(cls, model: object, tokenizer: Tokenizer | None, folder: str) -> LocalChatModel:
        """Of a folder that is loaded."""
        require_capability(model, "generate")
        assert isinstance(model, LanguageModel)
        if tokenizer is None:
            raise UserError(f"{folder}: has no tokenizer", "put the model's tokenizer there")
        return cls(model, tokenizer, folder)

    def generate(
        self,
        conversations: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[str | None]:
        """Complete answers, `MICRO_BATCH_SIZE` at a time; greedy at temperature 0. Reasoning before an answer counts as its
        tokens and is no part of it.
        """
        config = SamplingConfig(temperature=temperature, max_new_tokens=max_new_tokens, seed=0)
        answers: list[str | None] = [None] * len(conversations)
        fitting = [i for i, messages in enumerate(conversations) if self._fits(messages)]
        for start in range(0, len(fitting), MICRO_BATCH_SIZE):
            rows = fitting[start : start + MICRO_BATCH_SIZE]
            row_seeds = None if seeds is None else [seeds[i] for i in rows]
            prompts = [conversations[i] for i in rows]
            completions = generate_batch(self.model, self.tokenizer, prompts, config, seeds=row_seeds)
            for i, completion in zip(rows, completions, strict=True):
                reply = read_reply(self.tokenizer, completion.token_ids)
                answers[i] = (reply.text if reply.reasoning else completion.text).strip()
            if on_progress is not None:
                on_progress(len(rows))
        return answers

    def score_choices(
        self, conversations: Sequence[Messages], choices: Sequence[str]
    ) -> list[tuple[float, ...] | None]:
        """Probabilities of the choices, which sum to 1."""
        fitting = [i for i, messages in enumerate(conversations) if self._fits(messages, n_reserved=16)]
        rows = [(conversations[i], choice) for i in fitting for choice in choices]
        log_probs = torch.tensor(log_likelihoods(self.model, self.tokenizer, rows), dtype=torch.float64)
        probabilities = log_probs.view(len(fitting), len(choices)).softmax(-1).tolist() if rows else []
        scores: list[tuple[float, ...] | None] = [None] * len(conversations)
        for i, row in zip(fitting, probabilities, strict=True):
            scores[i] = tuple(row)
        return scores

    def _fits(self, messages: Messages, n_reserved: int = 1) -> bool:
        return len(prompt_ids(self.tokenizer, messages)) + n_reserved <= self.model.config.max_seq_len
