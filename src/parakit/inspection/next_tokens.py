"""The likeliest next tokens at every position, and what temperature and top-p make of them.

A decoder's row t is its prediction of token t + 1, an encoder-decoder's that of its target. An encoder sees the whole text,
so each token is masked in turn and the row is the prediction of it (Salazar et al. 2020). What a temperature and a
nucleus keep is computed by the filters that generation uses.

Shapes: T positions, K candidates, V vocabulary, S settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, require_finite
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.filters import filter_logits
from parakit.inference.loaded_model import Model
from parakit.inspection.inputs import ModelInput, encode_input, run, token_text
from parakit.inspection.lenses.logit_lens import require_output_matrix
from parakit.model.heads import MaskedLanguageModel, SequenceToSequence
from parakit.model.precision import at_least_float32

TEMPERATURES, TOP_PS = (0.3, 0.7, 1.0, 1.5), (1.0, 0.9, 0.5)


@dataclass(frozen=True)
class NextTokens:
    """The candidates of each position, likeliest first."""

    tokens: tuple[str, ...]
    """What the model read, (T,)."""
    masked: bool
    """Row t is the prediction of token t, which was masked, instead of token t + 1."""
    top_ids: np.ndarray = field(repr=False)  # (T, K) int64
    top_probabilities: np.ndarray = field(repr=False)  # (T, K) float32
    top_tokens: tuple[tuple[str, ...], ...] = field(repr=False)  # (T, K)
    entropy: np.ndarray = field(repr=False)  # (T,) nats
    actual: tuple[str | None, ...] = ()
    """The token of the text that each row predicts; None behind the last."""
    actual_probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)  # (T,), NaN
    actual_ranks: np.ndarray = field(
        default_factory=lambda: np.zeros(0, np.int64), repr=False
    )  # (T,), 1: likeliest; 0

    def to_json(self) -> JsonObject:
        """Everything, as JSON has it; what is missing is null."""
        probabilities = [None if math.isnan(p) else float(p) for p in self.actual_probabilities]
        return {
            "tokens": list(self.tokens),
            "masked": self.masked,
            "top_ids": self.top_ids.tolist(),
            "top_tokens": [list(row) for row in self.top_tokens],
            "top_probabilities": self.top_probabilities.tolist(),
            "entropy": self.entropy.tolist(),
            "actual": list(self.actual),
            "actual_probabilities": probabilities,
            "actual_ranks": [rank or None for rank in self.actual_ranks.tolist()],
        }


@dataclass(frozen=True)
class SamplingTable:
    """One position's candidates under several settings of sampling."""

    position: int
    tokens: tuple[str, ...]
    """The likeliest tokens, (K,)."""
    settings: tuple[tuple[float, float], ...]
    """Temperature and top-p, (S,)."""
    probabilities: np.ndarray = field(repr=False)  # (S, K): 0 for a token that the nucleus leaves out
    n_kept: np.ndarray = field(repr=False)  # (S,): tokens that can be drawn
    entropy: np.ndarray = field(repr=False)  # (S,) nats

    def to_json(self) -> JsonObject:
        """Everything, as JSON has it."""
        rows = [
            {
                "temperature": temperature,
                "top_p": top_p,
                "n_kept": int(kept),
                "entropy": float(entropy),
                "probabilities": probabilities.tolist(),
            }
            for (temperature, top_p), kept, entropy, probabilities in zip(
                self.settings, self.n_kept, self.entropy, self.probabilities, strict=True
            )
        ]
        return {"position": self.position, "tokens": list(self.tokens), "settings": rows}


def next_tokens(
    model: Model, text: str | ModelInput, *, target: str | None = None, n_candidates: int = 10
) -> NextTokens:
    """The candidates at every position of a text. Raises `UserError` for a model that predicts no tokens, and as
    `encode_input`.
    """
    network = require_output_matrix(model)
    given = encode_input(model, text, target) if isinstance(text, str) else text
    logs = next_token_log_probabilities(model, given)
    best = logs.topk(min(n_candidates, logs.shape[-1]), dim=-1)
    masked = isinstance(network, MaskedLanguageModel)
    wanted = torch.tensor(given.token_ids if masked else [*given.token_ids[1:], -1], device=logs.device)
    of_wanted = logs.gather(-1, wanted.clamp(min=0)[:, None])  # (T, 1)
    ranks = 1 + (logs > of_wanted).sum(-1)
    ids = best.indices.cpu().numpy()
    return NextTokens(
        given.tokens,
        masked,
        ids,
        best.values.exp().cpu().numpy(),
        tuple(tuple(_texts(model, row)) for row in ids.tolist()),
        entropy_of(logs).cpu().numpy(),
        given.tokens if masked else (*given.tokens[1:], None),
        of_wanted[:, 0].exp().masked_fill(wanted < 0, torch.nan).cpu().numpy(),
        ranks.masked_fill(wanted < 0, 0).cpu().numpy(),
    )


def sampling_table(
    model: Model,
    text: str | ModelInput,
    *,
    target: str | None = None,
    position: int = -1,
    temperatures: Sequence[float] = TEMPERATURES,
    top_ps: Sequence[float] = TOP_PS,
    n_candidates: int = 10,
) -> SamplingTable:
    """What each temperature with each top-p makes of the prediction at `position` (-1: the last). Errors as
    `next_tokens`; a position that the text does not have, a temperature of 0 or less and a top-p outside (0, 1] are further
    ones.
    """
    require_output_matrix(model)
    given = encode_input(model, text, target) if isinstance(text, str) else text
    n = len(given.token_ids)
    if not -n <= position < n:
        raise UserError(
            f"position {position}, and the text has {n} tokens", f"choose one from 0 to {n - 1}, or -1"
        )
    position %= n
    logs = next_token_log_probabilities(model, given, (position,))[0]
    settings = [(temperature, top_p) for temperature in temperatures for top_p in top_ps]
    if (lowest := min(temperatures)) <= 0:
        raise UserError(f"temperature {lowest:g}: at 0 the likeliest token is taken", "give one above 0")
    rows = [changed_probabilities(logs, *setting) for setting in settings]
    best = logs.topk(min(n_candidates, len(logs))).indices
    return SamplingTable(
        position,
        tuple(_texts(model, best.tolist())),
        tuple(settings),
        torch.stack([row[best] for row in rows]).cpu().numpy(),
        np.array([int((row > 0).sum()) for row in rows]),
        np.array([float(entropy_of(row.log())) for row in rows]),
    )


def changed_probabilities(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """The probabilities (V,) with which a token is drawn from logits (V,)."""
    config = SamplingConfig.parse({"temperature": temperature, "top_p": top_p, "top_k": 0}, "sampling")
    return filter_logits(logits[None], config)[0].softmax(-1)


def entropy_of(logs: Tensor) -> Tensor:
    """Entropies (...) in nats of log-probabilities (..., V); -inf is a probability of 0."""
    terms = logs.exp() * logs.masked_fill(logs == -torch.inf, 0)
    return (-terms.sum(-1)).clamp(min=0) + 0.0  # + 0.0: no negative zero


@torch.no_grad()
def next_token_log_probabilities(
    model: Model, given: ModelInput, positions: Sequence[int] | None = None
) -> Tensor:
    """Log-probabilities (T, V) of every position, or of `positions`, float32 or better."""
    network = require_output_matrix(model)
    chosen = range(len(given.token_ids)) if positions is None else positions
    if isinstance(network, MaskedLanguageModel):
        logits = torch.cat(list(_masked_logits(model, network, given, chosen)))
    else:
        logits = run(model, given)[-len(given.token_ids) :][list(chosen)]
    return require_finite(logits, "logits").log_softmax(-1)


def _masked_logits(
    model: Model, network: MaskedLanguageModel, given: ModelInput, positions: Sequence[int]
) -> Iterator[Tensor]:
    """Logits (B, V) of each position with its token masked, a batch at a time."""
    mask_id = model.tokenizer.mask_id
    if mask_id is None:
        raise UserError(f"{model.path}: its tokenizer has no mask token", "take a model that fills masks")
    device = next(network.parameters()).device
    context: dict[str, Any] = {}
    with evaluation_mode(network):
        for start in range(0, len(positions), MICRO_BATCH_SIZE):
            chosen = torch.tensor(positions[start : start + MICRO_BATCH_SIZE], device=device)
            rows = torch.arange(len(chosen), device=device)
            ids = torch.tensor(given.token_ids, device=device).repeat(len(chosen), 1)
            ids[rows, chosen] = mask_id
            if network.config.n_token_types and given.token_type_ids:
                types = torch.tensor(given.token_type_ids, device=device)
                context["token_type_ids"] = types.expand(len(chosen), -1)
            yield at_least_float32(network.logits(network.hidden(ids, **context)[rows, chosen]))


def _texts(model: Model, token_ids: Sequence[int]) -> list[str]:
    tokenizer = model.tokenizer
    if isinstance(model.network, SequenceToSequence):
        tokenizer = tokenizer.target
    return [token_text(tokenizer, token_id) for token_id in token_ids]
