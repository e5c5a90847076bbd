"""What parts of a network do: its answer without them, or with what they compute for another text.

Heads and neurons are units of a site: ablating one sets it to zero, or to its mean over given texts, at every token, and
the effect is what that does to a pair's value. Activation patching puts what a part computed for one text into the forward
pass of another (Vig et al. 2020; Meng et al. 2022): where the answer turns over, the difference between the texts is carried.

Many ablations run as rows of one forward pass: each row has its own units replaced.

Shapes: R rows, T tokens, H heads, D head_dim, F d_ff, L layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.inference.loaded_model import Model
from parakit.inspection.capture import capture, edit
from parakit.inspection.inputs import ModelInput, encode_input, run_batch
from parakit.inspection.names import AblationMethod
from parakit.inspection.pairs import ScoredInput, ScoredPair, pair_values
from parakit.inspection.sites import Change, layers, sites

MAX_ROW_TOKENS = 1024  # of one forward pass over rows of ablations


@dataclass(frozen=True, order=True)
class NetworkUnit:
    """A head (of a site `blocks.3.attention.heads`) or a neuron (`blocks.3.feed_forward.neurons`)."""

    site: str
    index: int


def head_sites(network: Any) -> list[str]:
    """The sites of all heads."""
    return [name for name, site in sites(network).items() if site.n_heads is not None]


def neuron_sites(network: Any) -> list[str]:
    """The sites of all neurons. Those of routed experts are one site a layer: neuron f of expert e is number e * F + f."""
    return [name for name in sites(network) if name.endswith(".neurons")]


@contextlib.contextmanager
def ablated(
    network: Any, rows: Sequence[Sequence[NetworkUnit]], means: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """In row r of every forward pass inside the block, the units `rows[r]` are zero, or as in `means`, by site (H, D) or
    (F,). A pass has as many rows; one list stands for any number. Raises `UserError` for a unit that is not there.
    """
    by_site: dict[str, dict[int, list[int]]] = {}
    for row, units in enumerate(rows):
        for unit in units:
            by_site.setdefault(unit.site, {}).setdefault(row, []).append(unit.index)
    changes = {
        name: _replacing(name, chosen, len(rows), None if means is None else means[name])
        for name, chosen in by_site.items()
    }
    with edit(network, changes):
        yield


def _replacing(name: str, chosen: Mapping[int, list[int]], n_rows: int, mean: Tensor | None) -> Change:
    def change(value: Tensor) -> Tensor:
        n_units = value.shape[2]
        if (largest := max(map(max, chosen.values()))) >= n_units:
            raise UserError(
                f"{name} has no unit {largest}: the units are 0 to {n_units - 1}", "choose one of these"
            )
        mask = torch.zeros(n_rows, 1, n_units, dtype=torch.bool, device=value.device)
        for row, indices in chosen.items():
            mask[row, 0, indices] = True
        mask = mask if value.ndim == 3 else mask[..., None]
        replacement = torch.zeros((), dtype=value.dtype) if mean is None else mean
        return torch.where(mask, replacement.to(value), value)

    return change


def mean_activations(network: Any, texts: Sequence[ModelInput], names: Sequence[str]) -> dict[str, Tensor]:
    """The mean of each site over all tokens of the texts, without batch and token axes."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    with torch.no_grad(), capture(network, names) as found:
        for text in texts:
            run_batch(network, [text], [0] if hasattr(network, "lm_head") else None)
            for name, value in found.items():
                sums[name] = sums.get(name, 0) + value.flatten(0, 1).sum(0)
                counts[name] = counts.get(name, 0) + value.shape[0] * value.shape[1]
    return {name: sums[name] / counts[name] for name in sums}


def effects(
    network: Any,
    pair: ScoredPair,
    rows: Sequence[Sequence[NetworkUnit]],
    means: Mapping[str, Tensor] | None = None,
    on_progress: OnProgress | None = None,
) -> np.ndarray:
    """What each row's ablation does to the pair's value, (R,) float64: negative where the units made `good` likelier.
    `on_progress` is called with how many more rows are finished.
    """
    n_tokens = max(len(side.given.token_ids) + len(side.given.source_ids) for side in (pair.good, pair.bad))
    n_at_once = max(1, MAX_ROW_TOKENS // n_tokens)
    values = []
    with torch.no_grad():
        plain = float(pair_values(network, pair)[0])
        for start in range(0, len(rows), n_at_once):
            some = rows[start : start + n_at_once]
            with ablated(network, some, means):
                values.append(pair_values(network, pair, len(some)).double().cpu().numpy())
            if on_progress is not None:
                on_progress(len(some))
    return np.concatenate(values) - plain if values else np.zeros(0)


def head_effects(
    model: Model,
    pair: ScoredPair,
    *,
    method: AblationMethod = "zero",
    reference: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> dict[str, np.ndarray]:
    """What ablating each head alone does to the pair's value: by site of heads (H,). `mean`: over the `reference` texts,
    or the pair's own without any.
    """
    network = model.network
    names = head_sites(network)
    numbers = _numbers_of_heads(network)
    means = None
    if method == "mean":
        texts = [encode_input(model, text) for text in reference] or [pair.good.given, pair.bad.given]
        means = mean_activations(network, texts, names)
    rows = [[NetworkUnit(name, head)] for name in names for head in range(numbers[name])]
    found = effects(network, pair, rows, means, on_progress)
    ends = np.cumsum([numbers[name] for name in names])[:-1]
    return dict(zip(names, np.split(found, ends), strict=True))


def _numbers_of_heads(network: Any) -> dict[str, int]:
    return {name: site.n_heads for name, site in sites(network).items() if site.n_heads is not None}


def estimated_effects(
    network: Any, pair: ScoredPair, names: Sequence[str], means: Mapping[str, Tensor] | None = None
) -> dict[str, np.ndarray]:
    """The effect of ablating each head or neuron to first order, by site (H,) or (F,), from one backward pass: (replacement -
    activation) times the gradient, over all tokens (Nanda 2023, "Attribution patching").
    """
    passes: list[tuple[str, Tensor, Tensor]] = []  # site, activation, and zeros that are added to it

    def tracing(name: str) -> Change:
        def change(value: Tensor) -> Tensor:
            zeros = torch.zeros_like(value, requires_grad=True)
            passes.append((name, value.detach(), zeros))
            return value + zeros

        return change

    with torch.enable_grad(), edit(network, {name: tracing(name) for name in names}):
        value = pair_values(network, pair)[0]
        gradients = torch.autograd.grad(value, [zeros for _, _, zeros in passes])
    effects_by_site: dict[str, Tensor] = {}
    for (name, activation, _), gradient in zip(passes, gradients, strict=True):
        change = (0 if means is None else means[name]) - activation
        effect = (change * gradient).flatten(0, 1).sum(0)
        effect = effect.sum(-1) if effect.ndim > 1 else effect
        effects_by_site[name] = effects_by_site.get(name, 0) + effect
    return {name: effect.double().cpu().numpy() for name, effect in effects_by_site.items()}


@contextlib.contextmanager
def patched(network: Any, other: ModelInput, names: Sequence[str]) -> Iterator[None]:
    """Inside the block these sites have the values that they have for the text `other`, at every token. Raises `UserError`
    where a text of another length is run.
    """
    with torch.no_grad(), capture(network, names) as found:
        run_batch(network, [other])
    stored = dict(found)
    with edit(network, {name: _taking(value) for name, value in stored.items()}):
        yield


def _taking(stored: Tensor) -> Change:
    def change(value: Tensor) -> Tensor:
        if value.shape[1:] != stored.shape[1:]:
            raise UserError(
                f"patching needs two texts of the same number of tokens: {value.shape[1]} and {stored.shape[1]}",
                "change words to others of as many tokens",
            )
        return stored.expand_as(value)

    return change


def residual_patching(model: Model, pair: ScoredPair, other: ScoredPair) -> np.ndarray:
    """(L, T): what the pair's value becomes when after each layer, at each token, the residual stream of `other` is put in,
    minus its own value. `other` has the same answers behind another beginning of equal length; T counts the tokens of both
    up to the one whose logits decide. Of an encoder-decoder: the decoder's layers.
    """
    network = model.network
    names = [f"{one.name}.output" for one in layers(network) if one.stack != "encoder."]
    n_tokens = pair.deciding + 1
    stored = [_residuals(network, side, names) for side in (other.good, other.bad)]
    result = np.zeros((len(names), n_tokens))
    with torch.no_grad():
        plain = float(pair_values(network, pair)[0])
        for layer, name in enumerate(names):
            sides = iter([one[name] for one in stored])
            with edit(network, {name: _each_position(sides, n_tokens)}):
                result[layer] = pair_values(network, pair, n_tokens).cpu().numpy() - plain
    return result


def _residuals(network: Any, side: ScoredInput, names: Sequence[str]) -> dict[str, Tensor]:
    with torch.no_grad(), capture(network, names) as found:
        run_batch(network, [side.given])
    return dict(found)


def _each_position(sides: Iterator[Tensor], n_tokens: int) -> Change:
    """Row r takes position r; the sides of a pair run one after the other."""

    def change(value: Tensor) -> Tensor:
        stored = next(sides)
        if stored.shape[1] != value.shape[1]:
            raise UserError(
                f"patching needs two texts of the same number of tokens: {value.shape[1]} and {stored.shape[1]}",
                "change words to others of as many tokens",
            )
        value = value.clone()
        index = torch.arange(n_tokens, device=value.device)
        value[index, index] = stored[0, :n_tokens]
        return value

    return change
