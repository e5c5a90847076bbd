"""Published models and laws, as their papers state them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.planner.published import reproduced
from parakit.model.pretrained_configs import preset
from parakit.planning.laws import BESIROGLU, HOFFMANN, expected_loss, kaplan_params, tokens_needed

ROWS = {row.name: row for row in reproduced()}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_what_papers_state_is_reproduced(name: str) -> None:
    row = ROWS[name]
    assert row.error <= row.limit, (row.computed, row.published)


def test_sizes_that_are_known_to_the_parameter() -> None:
    """From the published weight files."""
    exact = {"gpt": 116_534_784, "gpt2": 124_439_808, "gpt2-xl": 1_557_611_200, "llama-2-7b": 6_738_415_616}
    for name, n in exact.items():
        assert preset(name).n_params()["total"] == n


def test_ten_budgets_of_chinchilla() -> None:
    assert sum(name.startswith("tokens for") and "Chinchilla" not in name for name in ROWS) == 10


@pytest.mark.parametrize("law", [HOFFMANN, BESIROGLU], ids=lambda law: law.name)
@pytest.mark.parametrize("flops", [1e18, 5.76e23])
def test_the_optimum_is_the_least_loss_of_its_budget(law, flops: float) -> None:
    sizes = np.exp(np.linspace(10, 32, 200_001))
    best = sizes[np.argmin([law.loss(sizes, flops / 6 / sizes)])]
    assert law.optimal_params(flops) == pytest.approx(best, rel=1e-3)
    assert 6 * law.optimal_params(flops) * law.optimal_tokens(flops) == pytest.approx(flops)


def test_tokens_for_a_size_invert_the_optimum() -> None:
    for n in (1e8, 7e10):
        tokens = tokens_needed(n).besiroglu
        assert BESIROGLU.optimal_params(6 * n * tokens) == pytest.approx(n)
    assert tokens_needed(70e9).chinchilla == 1.4e12


def test_kaplan_wants_larger_models_of_the_same_compute() -> None:
    """For GPT-3's compute, 3,640 petaFLOP/s-days, a size beyond Chinchilla's (Kaplan et al. 2020, figure 14)."""
    assert kaplan_params(3.14e23) == pytest.approx(1.3e9 * 3634**0.73, rel=1e-3)
    assert kaplan_params(3.14e23) > 5 * BESIROGLU.optimal_params(3.14e23)
    assert tokens_needed(1e12).kaplan < tokens_needed(1e12).chinchilla / 10


def test_a_loss_has_an_interval_and_is_marked_outside_of_what_was_fitted() -> None:
    chinchilla = expected_loss(70e9, 1.4e12)
    assert chinchilla.low < chinchilla.loss < chinchilla.high
    assert chinchilla.low <= HOFFMANN.loss(70e9, 1.4e12) <= chinchilla.high
    assert 1.9 < chinchilla.loss < 2.0
    assert chinchilla.is_extrapolated
    assert not expected_loss(1e9, 2e10).is_extrapolated
    assert expected_loss(1e6, 1e7).is_extrapolated
