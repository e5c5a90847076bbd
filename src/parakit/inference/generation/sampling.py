"""Choosing the next token: pure filters over logits, and one draw by inverse transform sampling.

Filters set dropped tokens to minus infinity, in transformers' order: repetition penalty (Keskar et al. 2019),
temperature, top-k (Fan et al. 2018), top-p (Holtzman et al. 2019), min-p (Nguyen et al. 2024). A draw uses one uniform
number per token, a pure function of (the request's seed, the position in the completion): a completion does not depend
on the other requests of its batch. What a publisher's settings demand besides comes first: see `rules`.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import torch

from parakit.common.seeds import derive_seed, rng
from parakit.inference.batching import require_finite
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.rules import GenerationRules, TokenHistory

NEG_INF = float("-inf")
LARGEST_UNIFORM = 1 - 2**-50  # times a sum of probabilities, this still rounds to less than the sum


def penalize_repetition(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """Make tokens that occurred less likely: positive logits are divided, negative ones multiplied. seen: bool (B, V)."""
    penalized = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, penalized, logits)


def keep_top_k(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """Keep the `top_k` likeliest tokens of each row, and any that ties with the last of them."""
    if top_k >= logits.shape[-1]:
        return logits
    smallest_kept = torch.topk(logits, top_k, dim=-1).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest_kept, NEG_INF)


def keep_top_p(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the nucleus: the fewest likeliest tokens whose probabilities sum to at least `top_p`."""
    ordered, order = torch.sort(logits, dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = (
        probabilities.cumsum(-1) - probabilities
    )  # mass of all likelier tokens; 0 for the first, so one stays
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, order, before >= top_p)
    return logits.masked_fill(dropped, NEG_INF)


def keep_min_p(logits: torch.Tensor, min_p: float) -> torch.Tensor:
    """Keep tokens at least `min_p` times as likely as the likeliest one."""
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < min_p * probabilities.amax(-1, keepdim=True), NEG_INF)


def filter_logits(
    logits: torch.Tensor, config: SamplingConfig, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply every filter that `config` switches on to logits (B, V); the repetition penalty needs `seen` (B, V).

    At temperature 0 only the penalty applies: no other filter can change which token is the likeliest.
    """
    if config.repetition_penalty != 1.0 and seen is not None:
        logits = penalize_repetition(logits, seen, config.repetition_penalty)
    if config.temperature == 0.0:
        return logits
    if config.temperature != 1.0:
        if config.temperature < 1e-3:  # the largest logit becomes 0, so that division cannot overflow
            logits = logits - logits.amax(-1, keepdim=True)
        logits = logits / config.temperature
    if config.top_k:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p < 1.0:
        logits = keep_top_p(logits, config.top_p)
    if config.min_p > 0.0:
        logits = keep_min_p(logits, config.min_p)
    return logits


def draw(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The token ids (B,) at which each row's cumulative distribution passes `uniform` (float64 (B,), in [0, 1)).

    The sum runs in float64, so a token of probability 1e-9 is still drawn once in 1e9, and a dropped one never.
    """
    cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)  # (B, V)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True).squeeze(1)


def sample(
    logits: torch.Tensor, config: SamplingConfig, uniform: torch.Tensor, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """Choose one token per row: logits (B, V) and uniforms (B,) to token ids (B,). Temperature 0 ignores the uniforms."""
    logits = filter_logits(logits if logits.dtype == torch.float64 else logits.float(), config, seen)
    return logits.argmax(-1) if config.temperature == 0.0 else draw(logits, uniform)


def request_seeds(seed: int | None, n_requests: int) -> list[int]:
    """One seed per request of a call; without a seed they come from the operating system."""
    if seed is None:
        seed = secrets.randbits(62)
    return [derive_seed(seed, "request", row) % 2**63 for row in range(n_requests)]


def uniforms(seed: int, n_tokens: int) -> np.ndarray:
    """The uniform numbers (float64 (n_tokens,)) that a request with this seed uses, one per token."""
    return np.minimum(rng(seed, "sampling").random(n_tokens), LARGEST_UNIFORM)


class Sampler:
    """Chooses the tokens of a batch in flight: holds each row's uniforms and, for the penalty, the tokens that occurred."""

    def __init__(
        self,
        config: SamplingConfig,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        vocab_size: int,
        device: torch.device,
        rules: GenerationRules | None = None,
        histories: Sequence[TokenHistory] = (),
    ) -> None:
        self.config, self.rules, self.histories = config, rules, list(histories)
        self.greedy = config.temperature == 0.0
        self.n_chosen = 0
        self.uniforms: torch.Tensor | None = None  # (steps, B): a step's uniforms are contiguous
        self.seen: torch.Tensor | None = None  # (B, V)
        if not self.greedy:
            table = np.stack([uniforms(seed, max_new_tokens) for seed in seeds], axis=1)
            self.uniforms = torch.from_numpy(table).to(device)
        if config.repetition_penalty != 1.0:
            self.seen = torch.zeros(len(prompts), vocab_size, dtype=torch.bool, device=device)
            for row, prompt in enumerate(prompts):
                self.seen[row, torch.tensor(prompt, device=device)] = True

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of every row: logits (B, V) to token ids (B,). `UserError` where they are no finite numbers."""
        require_finite(logits, "logits")
        if self.rules is not None:
            logits = self.rules.apply(
                logits if logits.dtype == torch.float64 else logits.float(), self.histories
            )
            token_ids = self._choose(logits)
            for history, token_id in zip(self.histories, token_ids.tolist(), strict=True):
                history.token_ids.append(token_id)
            return token_ids
        return self._choose(logits)

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        if self.greedy and self.seen is None:
            return logits.argmax(-1)
        uniform = logits if self.uniforms is None else self.uniforms[self.n_chosen]
        token_ids = sample(logits, self.config, uniform, self.seen)
        self.n_chosen += 1
        if self.seen is not None:
            self.seen.scatter_(1, token_ids[:, None], True)
        return token_ids

    def select(self, rows: torch.Tensor) -> None:
        """Row i becomes the former row `rows[i]`; the others leave."""
        if self.uniforms is not None:
            self.uniforms = self.uniforms[:, rows]
        if self.seen is not None:
            self.seen = self.seen[rows]
        if self.rules is not None:
            self.histories = [self.histories[row] for row in rows.tolist()]
