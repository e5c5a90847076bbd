"""A model of ours as a speaker: answers by the one engine, choices by log-probabilities.

A choice is scored by the summed log-probability of its tokens after the conversation's generation prompt, the end of
turn left out ("Yes" may go on), and normalised over the choices. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from parakit.alignment.chat_models.chat_model import Messages, OnProgress
from parakit.checkpoints.model_folder import load_model
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, pad_rows, rows_by_length
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate_batch, prompt_ids
from parakit.model.heads import LanguageModel
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class LocalChatModel:
    """A decoder with its tokenizer."""

    model: LanguageModel
    tokenizer: Tokenizer
    name: str = "model"

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> LocalChatModel:
        """`UserError` for a folder that holds no model that writes, or no tokenizer."""
        model: Any
        model, tokenizer = load_model(folder, device)
        require_capability(model, "generate")
        if tokenizer is None:
            raise UserError(
                f"{folder}: has no tokenizer, so it cannot read or write", "put the model's tokenizer there"
            )
        return cls(model, tokenizer, str(folder))

    def generate(
        self,
        conversations: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        advance: OnProgress | None = None,
    ) -> list[str | None]:
        """Whole answers, `MICRO_BATCH_SIZE` at a time; greedy at temperature 0."""
        config = SamplingConfig(temperature=temperature, max_new_tokens=max_new_tokens, seed=0)
        answers: list[str | None] = [None] * len(conversations)
        fitting = [i for i, asked in enumerate(conversations) if self._fits(asked)]
        for start in range(0, len(fitting), MICRO_BATCH_SIZE):
            rows = fitting[start : start + MICRO_BATCH_SIZE]
            own_seeds = None if seeds is None else [seeds[i] for i in rows]
            prompts = [conversations[i] for i in rows]
            said = generate_batch(self.model, self.tokenizer, prompts, config, seeds=own_seeds)
            for i, completion in zip(rows, said, strict=True):
                answers[i] = completion.text.strip()
            if advance is not None:
                advance(len(rows))
        return answers

    def score_choices(
        self, conversations: Sequence[Messages], choices: Sequence[str]
    ) -> list[tuple[float, ...] | None]:
        """Probabilities of the choices, adding up to 1."""
        fitting = [i for i, asked in enumerate(conversations) if self._fits(asked, room=16)]
        rows = [(conversations[i], choice) for i in fitting for choice in choices]
        scores = torch.tensor(self._log_probabilities(rows), dtype=torch.float64)
        shares = scores.view(len(fitting), len(choices)).softmax(-1).tolist() if rows else []
        found: list[tuple[float, ...] | None] = [None] * len(conversations)
        for i, share in zip(fitting, shares, strict=True):
            found[i] = tuple(share)
        return found

    def _fits(self, asked: Messages, room: int = 1) -> bool:
        return len(prompt_ids(self.tokenizer, asked)) + room <= self.model.config.max_seq_len

    @torch.inference_mode()
    def _log_probabilities(self, rows: Sequence[tuple[Messages, str]]) -> list[float]:
        """The log-probability of each choice's tokens after its conversation."""
        device = next(self.model.parameters()).device
        ids, counted = [], []
        for asked, choice in rows:
            chat = compile_chat(self.tokenizer, [*asked, Message("assistant", choice)])
            n_prompt = len(prompt_ids(self.tokenizer, asked))
            said = [
                counts and place >= n_prompt and token_id not in self.tokenizer.control_ids
                for place, (token_id, counts) in enumerate(zip(chat.token_ids, chat.loss_mask, strict=True))
            ]
            ids.append(chat.token_ids)
            counted.append(said)
        scores = [0.0] * len(rows)
        with evaluation_mode(self.model):
            for members in rows_by_length(ids, MICRO_BATCH_SIZE):
                input_ids, _ = pad_rows([ids[i] for i in members], device)  # (B, T)
                said_mask, _ = pad_rows([counted[i] for i in members], device)
                # padding stands on the right, where causal attention cannot look
                logits = self.model(input_ids[:, :-1]).float()  # (B, T - 1, V)
                chosen = logits.log_softmax(-1).gather(-1, input_ids[:, 1:, None])[..., 0]
                sums = (chosen.double() * said_mask[:, 1:]).sum(-1).tolist()
                for i, total in zip(members, sums, strict=True):
                    scores[i] = total
        return scores
