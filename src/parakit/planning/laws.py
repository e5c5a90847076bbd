"""Published scaling laws: how many tokens a model needs, and which loss to expect. Imports no torch.

Kaplan et al. 2020 ("Scaling laws for neural language models", table 6) count parameters without embeddings and find that
the size should grow much faster than the data. Hoffmann et al. 2022 ("Training compute-optimal large language models")
find that both grow alike, about 20 tokens a parameter; their third approach fits L(N, D) = E + A / N^alpha + B / D^beta.
Besiroglu et al. 2024 ("Chinchilla scaling: a replication attempt") fit the same form to the data of their figures, and
correct it; their law agrees with the first two approaches. Losses are nats per token of those authors' text and
vocabulary: on another text only the differences carry over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PETAFLOP_DAY = 1e15 * 86_400
TOKENS_PER_PARAMETER = 20.0  # Hoffmann et al. 2022, approaches 1 and 2, rounded


@dataclass(frozen=True)
class LossLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, N parameters and D tokens, in nats per token. `loss_error`: the standard error
    of E, the loss that no size and no data reduce; `n_range`, `d_range`: what was fitted.
    """

    name: str
    irreducible: float
    size_factor: float
    data_factor: float
    size_exponent: float
    data_exponent: float
    loss_error: float
    n_range: tuple[float, float] = (4.4e7, 1.6e10)
    d_range: tuple[float, float] = (1e9, 5e11)

    def loss(self, n_params: float, n_tokens: float) -> float:
        """Nats per token."""
        of_size = self.size_factor / n_params**self.size_exponent
        return self.irreducible + of_size + self.data_factor / n_tokens**self.data_exponent

    def optimal_params(self, flops: float) -> float:
        """The size of the least loss at C = 6 N D (Hoffmann et al. 2022, equation 4)."""
        both = self.size_exponent + self.data_exponent
        ratio = self.size_exponent * self.size_factor / (self.data_exponent * self.data_factor)
        return float(ratio ** (1 / both) * (flops / 6) ** (self.data_exponent / both))

    def optimal_tokens(self, flops: float) -> float:
        """The tokens that go with `optimal_params`."""
        return flops / 6 / self.optimal_params(flops)

    def covers(self, n_params: float, n_tokens: float) -> bool:
        """Whether size and data are among those that the law was fitted to."""
        return (
            self.n_range[0] <= n_params <= self.n_range[1] and self.d_range[0] <= n_tokens <= self.d_range[1]
        )


HOFFMANN = LossLaw("Hoffmann et al. 2022, approach 3", 1.69, 406.4, 410.7, 0.34, 0.28, 0.03)
BESIROGLU = LossLaw("Besiroglu et al. 2024", 1.8172, 482.01, 2085.43, 0.3478, 0.3658, 0.03)


@dataclass(frozen=True)
class TokensNeeded:
    """Tokens to train on for a size, by each recommendation."""

    chinchilla: float
    """20 a parameter."""
    besiroglu: float
    kaplan: float
    """Of parameters without embeddings, at the compute that is optimal for that size."""


def tokens_needed(n_params: float, n_without_embedding: float | None = None) -> TokensNeeded:
    """The tokens at which a model of this size is the best use of its compute."""
    kaplan_days = ((n_without_embedding or n_params) / 1.3e9) ** (1 / 0.73)  # petaFLOP/s-days, table 6
    return TokensNeeded(
        chinchilla=TOKENS_PER_PARAMETER * n_params,
        besiroglu=_tokens_for(BESIROGLU, n_params),
        kaplan=2e10 * kaplan_days**0.27,
    )


def chinchilla_tokens(flops: float) -> float:
    """Tokens at a budget of C = 6 N D with 20 tokens a parameter."""
    return math.sqrt(flops * TOKENS_PER_PARAMETER / 6)


def kaplan_params(flops: float) -> float:
    """Parameters without embeddings at a budget (Kaplan et al. 2020, table 6)."""
    return float(1.3e9 * (flops / PETAFLOP_DAY) ** 0.73)


@dataclass(frozen=True)
class ExpectedLoss:
    """Nats per token with a 95 % interval; `is_extrapolated`: size or data are outside of those that the law was fitted to."""

    loss: float
    low: float
    high: float
    law: str
    is_extrapolated: bool


def expected_loss(n_params: float, n_tokens: float, law: LossLaw = BESIROGLU) -> ExpectedLoss:
    """The loss by `law`. The interval is 1.96 standard errors of its constant, widened to include the other published fit,
    which is what two groups disagree about on the same data.
    """
    loss = law.loss(n_params, n_tokens)
    bounds = [loss - 1.96 * law.loss_error, loss + 1.96 * law.loss_error]
    bounds += [other.loss(n_params, n_tokens) for other in (HOFFMANN, BESIROGLU)]
    return ExpectedLoss(loss, min(bounds), max(bounds), law.name, not law.covers(n_params, n_tokens))


def _tokens_for(law: LossLaw, n_params: float) -> float:
    """The tokens at which `n_params` is optimal: `optimal_params` solved for the compute."""
    both = law.size_exponent + law.data_exponent
    ratio = law.size_exponent * law.size_factor / (law.data_exponent * law.data_factor)
    product = (n_params / ratio ** (1 / both)) ** (both / law.data_exponent)
    return float(product / n_params)
