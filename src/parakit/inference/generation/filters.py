"""Filters over logits, and one draw from what they keep. Dropped tokens are set to minus infinity.

The order is that of transformers: temperature, top-k (Fan et al. 2018), top-p (Holtzman et al. 2019), min-p (Nguyen et
al. 2024), typical sampling (Meister et al. 2022). What depends on the tokens so far comes before: see `rules`.

A sort of a whole vocabulary costs more than the rest of a step together. So `candidates` first narrows a row to the few
tokens that can pass top-k or top-p, in the order of their ids, and the same filters run on these alone.

Shapes: B rows, V vocabulary, K candidates.
"""

from __future__ import annotations

import torch

from parakit.inference.config import SamplingConfig

NEG_INF = float("-inf")
N_NUCLEUS = 512  # candidates in which a nucleus is looked for before everything is sorted


def keep_top_k(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """Keep the `top_k` likeliest tokens of each row, and any that ties with the last of them."""
    if top_k >= logits.shape[-1]:
        return logits
    smallest_kept = torch.topk(logits, top_k, dim=-1).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest_kept, NEG_INF)


def keep_top_p(logits: torch.Tensor, top_p: float, log_total: torch.Tensor | None = None) -> torch.Tensor:
    """Keep the nucleus: the fewest likeliest tokens whose probabilities sum to at least `top_p`.

    `log_total` (B, 1) is the logarithm of the sum of exp(logit) where `logits` are not all that there are.
    """
    ordered, order = torch.sort(logits, dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1) if log_total is None else (ordered - log_total).exp()
    behind = probabilities.cumsum(-1) - probabilities >= top_p  # the mass of all likelier tokens
    behind[..., 0] = False  # one stays, also where `top_p` is no float32 and compares as 0
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, order, behind)
    return logits.masked_fill(dropped, NEG_INF)


def keep_min_p(logits: torch.Tensor, min_p: float) -> torch.Tensor:
    """Keep tokens at least `min_p` times as likely as the likeliest one."""
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < min_p * probabilities.amax(-1, keepdim=True), NEG_INF)


def keep_typical(logits: torch.Tensor, typical_p: float) -> torch.Tensor:
    """Keep the tokens whose surprise is closest to the entropy, as few as have `typical_p` of the probability together."""
    logs = logits.log_softmax(-1)
    entropy = -(logs.exp() * logs).nansum(-1, keepdim=True)  # a dropped token is 0 * -inf
    distance = (-logs - entropy).abs()
    ordered, order = torch.sort(distance, dim=-1, stable=True)
    mass = logits.gather(-1, order).softmax(-1).cumsum(-1)
    last = (mass < typical_p).sum(-1, keepdim=True).clamp_(max=logits.shape[-1] - 1)
    return logits.masked_fill(distance > ordered.gather(-1, last), NEG_INF)


def divide_by_temperature(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits at a temperature above 0."""
    if temperature == 1.0:
        return logits
    if temperature < 1e-3:  # the largest logit becomes 0, so that division cannot overflow
        logits = logits - logits.amax(-1, keepdim=True)
    return logits / max(temperature, 1e-30)  # a float32 has no 1e-320, and 0 / 0 is not a number


def filter_logits(logits: torch.Tensor, config: SamplingConfig) -> torch.Tensor:
    """Apply every filter that `config` switches on to logits (B, V); at temperature 0 none, for it draws nothing."""
    if config.temperature == 0.0:
        return logits
    logits = divide_by_temperature(logits, config.temperature)
    if config.top_k:
        logits = keep_top_k(logits, config.top_k)
    return _keep_likely(logits, config, None)


def _keep_likely(
    logits: torch.Tensor, config: SamplingConfig, log_total: torch.Tensor | None
) -> torch.Tensor:
    """The filters behind top-k."""
    if config.top_p < 1.0:
        logits = keep_top_p(logits, config.top_p, log_total)
    if config.min_p > 0.0:
        logits = keep_min_p(logits, config.min_p)
    if config.typical_p < 1.0:
        logits = keep_typical(logits, config.typical_p)
    return logits


def candidates(logits: torch.Tensor, config: SamplingConfig) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`filter_logits` of what can be drawn: logits (B, K) after every filter, and their token ids (B, K), ascending.

    No ids: the logits are those of the whole vocabulary. The distribution is that of `filter_logits`.
    """
    vocab_size = logits.shape[-1]
    n = config.top_k or (N_NUCLEUS if config.top_p < 1.0 else 0)
    if not n or 4 * n > vocab_size:
        return filter_logits(logits, config), None
    logits = divide_by_temperature(logits, config.temperature)
    values, ids = torch.topk(logits, n + 1, dim=-1)  # one more, to see a tie
    inner, log_total = values[:, :n], None
    if config.top_k:
        complete = values[:, n - 1] > values[:, n]
    else:
        log_total = logits.logsumexp(-1, keepdim=True)
        above = inner.masked_fill(
            inner == values[:, n:], NEG_INF
        )  # a tie with a token outside is not certain
        complete = (above - log_total).exp().sum(-1) > config.top_p + 1e-4
    if not bool(complete.all()):
        return filter_logits(logits, config.replace(temperature=1.0)), None
    ids, order = ids[:, :n].sort(-1)
    return _keep_likely(inner.gather(-1, order), config, log_total), ids


def draw(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The places (B,) at which each row's cumulative distribution passes `uniform` (float64 (B,), in [0, 1)).

    The sum runs in float64, so a token of probability 1e-9 is still drawn once in 1e9, and a dropped one never.
    """
    cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)  # (B, V)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True).squeeze(1)
