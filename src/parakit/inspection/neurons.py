"""Which neurons decide a pair, and which answer to which tokens.

A neuron is one entry of a feed-forward layer's inner vector. Ablating every one alone would take as many forward passes as
there are neurons; one backward pass gives each one's effect to first order, activation times gradient (Molchanov et al.
2016; Nanda 2023, "Attribution patching"), and the neurons with the largest are then ablated one by one, which is exact.

Shapes: T tokens, F d_ff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parakit.common.progress import OnProgress
from parakit.inference.loaded_model import Model
from parakit.inspection.ablation import (
    NetworkUnit,
    effects,
    estimated_effects,
    mean_activations,
    neuron_sites,
)
from parakit.inspection.attention import chosen_layers
from parakit.inspection.capture import activations
from parakit.inspection.inputs import ModelInput, encode_input
from parakit.inspection.names import AblationMethod
from parakit.inspection.pairs import ScoredPair
from parakit.inspection.sites import sites


@dataclass(frozen=True)
class NeuronEffect:
    """A neuron, and what ablating it alone does to the pair's value."""

    unit: NetworkUnit
    effect: float
    estimate: float
    """To first order, by which it was chosen."""


def neuron_effects(
    model: Model,
    pair: ScoredPair,
    *,
    n: int = 20,
    method: AblationMethod = "zero",
    reference: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> list[NeuronEffect]:
    """The `n` neurons whose ablation changes the pair's value most by the estimate, each ablated alone; the largest
    measured effect first. Negative: without it `good` is less likely. `mean` as in `head_effects`.
    """
    network, names = model.network, _sites_of(model.network)
    means = None
    if method == "mean":
        texts = [encode_input(model, text) for text in reference] or [pair.good.given, pair.bad.given]
        means = mean_activations(network, texts, names)
    estimates = estimated_effects(network, pair, names, means)
    every = np.concatenate([estimates[name] for name in names])
    order = np.argsort(-np.abs(every), kind="stable")[:n]
    starts = np.cumsum([0, *(len(estimates[name]) for name in names)])
    units = []
    for flat in order:
        site = int(np.searchsorted(starts, flat, side="right")) - 1
        units.append(NetworkUnit(names[site], int(flat - starts[site])))
    measured = effects(network, pair, [[unit] for unit in units], means, on_progress)
    found = [
        NeuronEffect(unit, float(effect), float(every[flat]))
        for unit, effect, flat in zip(units, measured, order, strict=True)
    ]
    return sorted(found, key=lambda one: -abs(one.effect))


@dataclass(frozen=True)
class ActiveNeuron:
    """A neuron at the token where it is most active."""

    unit: NetworkUnit
    position: int
    activation: float
    mean: float
    """Over the text's tokens."""


def active_neurons(
    model: Model, text: str | ModelInput, *, layer: int | None = None, n: int = 20, target: str | None = None
) -> list[ActiveNeuron]:
    """The neurons whose activation rises highest above their mean over the text, in units of the layer's spread. Raises
    `UserError` for a layer without neurons.
    """
    names = _sites_of(model.network, layer)
    found = activations(model, text, names, target)
    ranked = []
    for name, values in found.items():  # (T, F)
        mean = values.mean(0)
        rise = (values - mean) / max(float(values.std()), 1e-12)
        at = rise.argmax(0)
        for neuron in np.argsort(-rise.max(0))[:n]:
            position = int(at[neuron])
            one = ActiveNeuron(
                NetworkUnit(name, int(neuron)), position, float(values[position, neuron]), float(mean[neuron])
            )
            ranked.append((float(rise[position, neuron]), one))
    return [one for _, one in sorted(ranked, key=lambda pair: -pair[0])[:n]]


def expert_of(network: Any, unit: NetworkUnit) -> tuple[int, int] | None:
    """The expert of a neuron and its number within it; None for one that is not of routed experts."""
    experts = sites(network)[unit.site].experts
    return None if experts is None else divmod(unit.index, experts.up.shape[1])


def _sites_of(network: Any, layer: int | None = None) -> list[str]:
    numbers = {one.name for one in chosen_layers(network, layer, None)}
    return [name for name in neuron_sites(network) if name.partition(".feed_forward")[0] in numbers]
