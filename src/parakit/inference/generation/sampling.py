"""Choosing the next tokens of a batch whose rows have settings of their own.

A `RequestSampler` is what one request knows: its settings, its tokens so far, its stream of random numbers.
`choose_tokens` chooses one token for each: plain greedy rows by one argmax, others by `rules` row by row, then `filters`
over all rows with equal settings together. A draw uses one uniform number per token, a pure function of (the request's
seed, the position in the completion), by inverse transform sampling: a completion does not depend on the other requests of
its batch.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import copy
import math
import secrets
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from parakit.common.errors import UserError
from parakit.common.seeds import derive_seed, rng
from parakit.inference.batching import not_finite
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.filters import candidates, draw
from parakit.inference.generation.rules import NEG_INF, GenerationRules, TokenHistory, request_rules
from parakit.model.precision import at_least_float32

LARGEST_UNIFORM = 1 - 2**-50  # times a sum of probabilities, this still rounds to less than the sum
N_UNIFORMS = 32  # drawn at a time


class TokenConstraint(Protocol):
    """What a grammar, a schema or an expression allows."""

    def allowed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Which tokens may follow the completion `token_ids`: bool (V,); a shorter one forbids the ids behind it. Calls
        may come with any completions in any order.
        """
        ...


class Alternative(NamedTuple):
    """A token that could have been chosen, and the model's log-probability of it."""

    token_id: int
    log_probability: float


class Choice(NamedTuple):
    """The next token of a row. The log-probabilities are the model's own (no rules, no temperature, no filters), where the
    request wants them. A row for which there is no choice has an `error`, and its id is -1.
    """

    token_id: int
    log_probability: float | None = None
    alternatives: tuple[Alternative, ...] = ()
    """The likeliest tokens, likeliest first."""
    error: UserError | None = None
    hidden: torch.Tensor | None = None
    """(D,): the model's vector before the token, where an engine was to keep it."""


def request_seeds(seed: int | None, n_requests: int) -> list[int]:
    """One seed per request of a call; without a seed they come from the operating system."""
    if seed is None:
        seed = secrets.randbits(62)
    return [derive_seed(seed, "request", row) % 2**63 for row in range(n_requests)]


def completion_seeds(seed: int, n: int) -> list[int]:
    """The seeds of the `n` completions of a request: the first has the request's own."""
    return [seed if i == 0 else derive_seed(seed, "completion", i) % 2**63 for i in range(n)]


def uniforms(seed: int, n_tokens: int) -> np.ndarray:
    """The uniform numbers (float64 (n_tokens,)) that a request with this seed uses, one per token."""
    return np.minimum(rng(seed, "sampling").random(n_tokens), LARGEST_UNIFORM)


class RequestSampler:
    """One request in flight: settings, tokens so far, random numbers. `accept` adds a token; `choose_tokens` does it itself.

    `max_new_tokens` is the longest completion; `source` what an encoder read (of a decoder the prompt). The keys of
    `config.logit_bias` are ids by now: see `resolve_logit_bias`.
    """

    def __init__(
        self,
        config: SamplingConfig,
        prompt_ids: Sequence[int],
        seed: int,
        rules: GenerationRules | None,
        max_new_tokens: int,
        constraint: TokenConstraint | None = None,
        *,
        source: Sequence[int] | None = None,
        stop_ids: Collection[int] = (),
    ) -> None:
        self.config, self.seed, self.constraint = config, seed, constraint
        self.rules = request_rules(rules, config, stop_ids)
        self.history = TokenHistory(
            list(prompt_ids), len(prompt_ids), max_new_tokens, prompt_ids if source is None else source
        )
        self.greedy = config.temperature == 0.0
        self.changes_scores = self.rules is not None or constraint is not None
        self.is_plain = self.greedy and not self.changes_scores and config.log_probabilities is None
        self.filter_key = (config.temperature, config.top_k, config.top_p, config.min_p, config.typical_p)
        self._random: np.random.Generator | None = None
        self._uniforms: list[float] = []

    @property
    def token_ids(self) -> list[int]:
        """The completion so far."""
        return self.history.token_ids[self.history.n_prompt :]

    @property
    def n_new(self) -> int:
        """Tokens of the completion so far: the position of the next one."""
        return self.history.n_new

    def uniform(self, position: int) -> float:
        """The random number in [0, 1) of the completion's token at `position`."""
        while position >= len(self._uniforms):
            self._random = self._random or rng(self.seed, "sampling")
            more = np.minimum(self._random.random(N_UNIFORMS), LARGEST_UNIFORM)
            self._uniforms += more.tolist()
        return self._uniforms[position]

    def accept(self, token_id: int) -> None:
        """The completion goes on with this token."""
        self.history.token_ids.append(token_id)

    def copy(self) -> RequestSampler:
        """A sampler that may go on otherwise; they share the constraint, which any completion may use."""
        other = copy.copy(self)
        history = self.history
        other.history = TokenHistory(list(history.token_ids), history.n_prompt, history.limit, history.source)
        return other

    def changed_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (V,) after the rules and the constraint; the input is not changed.

        Where rules and constraint leave no token, the constraint counts. `UserError` where it allows none.
        """
        scores = logits.cpu() if logits.device.type != "cpu" else logits.clone()
        self.change(scores.numpy(), logits)
        return scores.to(logits.device)

    def change(self, row: np.ndarray, logits: torch.Tensor) -> None:
        """`changed_scores` in place: `row` (V,) holds the numbers of `logits`."""
        if self.rules is not None:
            self.rules.change(row, self.history)
        if self.constraint is not None:
            forbidden = np.ones(len(row), bool)
            allowed = self.constraint.allowed(self.token_ids)[: len(row)]
            forbidden[: len(allowed)] = ~allowed.cpu().numpy()
            row[forbidden] = NEG_INF
            if row.max() == NEG_INF:
                row[~forbidden] = logits.cpu().numpy()[~forbidden]
        if row.max() == NEG_INF:
            raise UserError(
                f"no token is allowed after {self.n_new} tokens of the completion",
                "the forbidden and suppressed tokens, or the constraint, leave nothing",
            )


def choose_tokens(samplers: Sequence[RequestSampler], logits: torch.Tensor) -> list[Choice]:
    """The next token of every row of logits (B, V), by that row's settings; each sampler accepts its own.

    A row whose logits are no finite numbers, or for which nothing is allowed, has an `error`; the others have tokens.
    """
    if all(sampler.is_plain for sampler in samplers):
        token_ids = logits.argmax(-1, keepdim=True)
        largest = logits.gather(1, token_ids).squeeze(1).tolist()
        choices = [Choice(token_id) for token_id in token_ids.squeeze(1).tolist()]
        errors = {row: not_finite("logits") for row, value in enumerate(largest) if not math.isfinite(value)}
    else:
        choices, errors = _choose(samplers, logits)
    for row, sampler in enumerate(samplers):
        if row in errors:
            choices[row] = Choice(-1, error=errors[row])
        else:
            sampler.accept(choices[row].token_id)
    return choices


def distribution(sampler: RequestSampler, logits: torch.Tensor) -> torch.Tensor:
    """The exact probabilities (V,) with which `choose_tokens` would choose each next token; one 1 where it is greedy.

    Raises `UserError` as `changed_scores`, and for logits that are no finite numbers.
    """
    scores, errors = _scores([sampler], logits[None])
    if errors:
        raise errors[0]
    probabilities = torch.zeros_like(scores)
    if sampler.greedy:
        return probabilities.scatter_(1, scores.argmax(-1, keepdim=True), 1.0)[0]
    kept, ids = candidates(scores, sampler.config)
    return kept.softmax(-1)[0] if ids is None else probabilities.scatter_(1, ids, kept.softmax(-1))[0]


def _scores(
    samplers: Sequence[RequestSampler], logits: torch.Tensor
) -> tuple[torch.Tensor, dict[int, UserError]]:
    """Scores (B, V) after rules and constraints in float32 or better, and the errors of rows that have none."""
    finite = logits.amax(-1).isfinite().tolist()
    errors = {row: not_finite("logits") for row, is_finite in enumerate(finite) if not is_finite}
    logits = at_least_float32(logits)
    changed = [row for row, one in enumerate(samplers) if one.changes_scores or row in errors]
    if not changed:
        return logits, errors
    scores = logits.clone() if logits.device.type == "cpu" else logits.cpu()
    rows = scores.numpy()
    for row in changed:
        if row not in errors:
            try:
                samplers[row].change(rows[row], logits[row])
            except UserError as error:
                errors[row] = error
        if row in errors:
            rows[row] = 0.0
    return scores.to(logits.device), errors


def _choose(
    samplers: Sequence[RequestSampler], logits: torch.Tensor
) -> tuple[list[Choice], dict[int, UserError]]:
    """`choose_tokens` without what accepts them."""
    scores, errors = _scores(samplers, logits)
    groups: dict[object, list[int]] = {}
    for row, sampler in enumerate(samplers):
        groups.setdefault("greedy" if sampler.greedy else sampler.filter_key, []).append(row)
    token_ids = [0] * len(samplers)
    for rows in groups.values():
        some = scores if len(rows) == len(samplers) else scores[rows]
        for row, token_id in zip(rows, _choose_equal([samplers[row] for row in rows], some), strict=True):
            token_ids[row] = token_id
    wanted = [row for row, one in enumerate(samplers) if one.config.log_probabilities is not None]
    choices = [Choice(token_id) for token_id in token_ids]
    if wanted:
        all_logs = log_probabilities(logits if len(wanted) == len(samplers) else logits[wanted])
        for row, logs in zip(wanted, all_logs, strict=True):
            choices[row] = _with_logs(token_ids[row], logs, samplers[row].config.log_probabilities or 0)
    return choices, errors


def _choose_equal(samplers: Sequence[RequestSampler], scores: torch.Tensor) -> list[int]:
    """The tokens of rows with equal filters."""
    if samplers[0].greedy:
        return scores.argmax(-1).tolist()
    kept, ids = candidates(scores, samplers[0].config)
    uniform = [sampler.uniform(sampler.n_new) for sampler in samplers]
    places = draw(kept, torch.tensor(uniform, dtype=torch.float64, device=kept.device))
    return (places if ids is None else ids.gather(1, places[:, None]).squeeze(1)).tolist()


def with_log_probabilities(token_id: int, logits: torch.Tensor, n_alternatives: int) -> Choice:
    """The choice of a token after logits (V,), with the model's log-probabilities."""
    return _with_logs(token_id, log_probabilities(logits), n_alternatives)


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Logits (..., V) to log-probabilities, in float32 or better."""
    return at_least_float32(logits).log_softmax(-1)


def _with_logs(token_id: int, logs: torch.Tensor, n_alternatives: int) -> Choice:
    if not n_alternatives:
        return Choice(token_id, float(logs[token_id]))
    values, ids = logs.topk(min(n_alternatives, len(logs)))
    alternatives = tuple(map(Alternative, ids.tolist(), values.tolist()))
    return Choice(token_id, float(logs[token_id]), alternatives)
