"""pass@k: the probability that at least one of k completions passes, estimated from n of which c pass."""

from __future__ import annotations

import math


def pass_at_k(n: int, n_passed: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k), the unbiased estimator (Chen et al. 2021, equation 1), for n >= k.

    The share of all choices of k completions in which one passes; 1 - (1 - c/n)^k would be too low.
    """
    assert 0 <= n_passed <= n, f"{n_passed} of {n}"
    assert 1 <= k <= n, f"k = {k} of {n}"
    # a product of shares: the binomials of hundreds of completions are huge
    return 1.0 - math.prod(1.0 - k / i for i in range(n - n_passed + 1, n + 1))
