"""Round the matrices of a model by the chosen method: which codes and scales each of them gets.

The methods that read text go through the blocks in order and hold the vectors before one of them. GPTQ rounds the layers of
a block one stage after the other, on what the layers before them, rounded already, give; AWQ reads the original model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from parakit.compression.quantization.awq import fold_scales, folds_of, search_scales
from parakit.compression.quantization.block_inputs import (
    TOKENS_PER_BATCH,
    BlockInputs,
    Hessians,
    input_of,
    layer_inputs,
)
from parakit.compression.quantization.config import AWQConfig, GPTQConfig, QuantizeConfig
from parakit.compression.quantization.gptq import corrected_weight, gptq
from parakit.model.heads import LanguageModel
from parakit.model.quantized import QuantizedTensor, QuantScheme, dequantize, quantize_tensor
from parakit.model.quantized.swapping import HEAD, QuantPlan, tied_heads

BLOCKS = "trunk.blocks."
OnMatrix = Callable[[str], object]
"""Called with the name of each matrix that was rounded."""
LOOKUP_WEIGHT = 1.0
"""Of a matrix that is both the embedding and the head: its rows are looked up as well, where all inputs count alike."""


@torch.no_grad()
def round_matrices(
    model: LanguageModel, schemes: QuantPlan, config: QuantizeConfig, windows: Tensor | None, done: OnMatrix
) -> dict[str, QuantizedTensor]:
    """The rounded matrices of `schemes` by name. `windows` (N, T): calibration tokens, for the methods that read some.

    The model's own weights are changed on the way (AWQ's scales; GPTQ's results): afterwards it is only good for
    `quantize_modules` with the result.
    """
    if isinstance(config, GPTQConfig):
        assert windows is not None
        return _by_gptq(model, schemes, config, windows, done)
    if isinstance(config, AWQConfig):
        assert windows is not None
        return _by_awq(model, schemes, config, windows, done)
    found = {}
    for name, scheme in schemes.items():
        found[name] = quantize_tensor(_weight(model, name), scheme, search=config.searches_scales)
        done(name)
    return found


def _by_gptq(
    model: LanguageModel, schemes: QuantPlan, config: GPTQConfig, windows: Tensor, done: OnMatrix
) -> dict[str, QuantizedTensor]:
    found: dict[str, QuantizedTensor] = {}
    original = BlockInputs(model, windows) if config.correct_inputs else None
    for name, hessian in _outside_blocks(model, schemes, windows):
        weight = _weight(model, name)
        if hessian is None:
            found[name] = quantize_tensor(weight, schemes[name], search=config.searches_scales)
        else:
            found[name] = gptq(weight, hessian, schemes[name], config)
        weight.copy_(dequantize(found[name]))
        done(name)
    inputs = BlockInputs(model, windows)
    for number, block in enumerate(model.trunk.blocks):
        stages = inputs.stages(number, block, _inside(schemes, number))
        # the block is still the original's: once its first layer is rounded, it is not
        read = original.advance(number, block, [stage[0] for stage in stages]) if original else []
        for stage in stages:
            hessian, cross = _statistics(stage[0], number, block, inputs, read)
            for layer in stage:
                name = f"{BLOCKS}{number}.{layer}"
                weight = _weight(model, name)
                aim = weight if cross is None else corrected_weight(weight, cross, hessian, config.damping)
                found[name] = gptq(aim, hessian, schemes[name], config)
                weight.copy_(dequantize(found[name]))
                done(name)
        inputs.advance(number, block)
    return found


def _statistics(
    layer: str, number: int, block: nn.Module, inputs: BlockInputs, read: list[dict[str, Tensor]]
) -> tuple[Tensor, Tensor | None]:
    """The Hessian of what a layer reads, and its products with what it `read` in the original model, batch by batch."""
    sums = Hessians()
    for batch in range(len(inputs.batches)):
        x = input_of(block, layer, partial(inputs.run, number, block, batch))
        sums.add("now", x)
        if read:
            sums.add("cross", x, read[batch].pop(layer))
    return sums.mean("now"), sums.mean("cross") if read else None


def _by_awq(
    model: LanguageModel, schemes: QuantPlan, config: AWQConfig, windows: Tensor, done: OnMatrix
) -> dict[str, QuantizedTensor]:
    found: dict[str, QuantizedTensor] = {}
    for name, hessian in _outside_blocks(model, schemes, windows):
        importance = None if hessian is None else hessian.diagonal()
        found[name] = _rounded(model, name, schemes[name], config, importance)
        done(name)
    inputs = BlockInputs(model, windows)
    for number, block in enumerate(model.trunk.blocks):
        names = _inside(schemes, number)
        hessians = _read_by_layers(inputs, number, block, names)
        for fold in folds_of(block):
            of_fold = {layer: f"{BLOCKS}{number}.{layer}" for layer in fold.layers if layer in hessians}
            if len(of_fold) == len(fold.layers):
                weights = {name: _weight(model, name) for name in of_fold.values()}
                scales = search_scales(weights, schemes, hessians[fold.layers[0]], fold, config)
                fold_scales(block, fold, scales)
                for layer in fold.layers:
                    hessians[layer] = hessians[layer] / scales / scales[:, None]
        for layer in names:
            importance = hessians[layer].diagonal() if layer in hessians else None
            name = f"{BLOCKS}{number}.{layer}"
            found[name] = _rounded(model, name, schemes[name], config, importance)
            done(name)
    return found


def _read_by_layers(
    inputs: BlockInputs, number: int, block: nn.Module, names: list[str]
) -> dict[str, Tensor]:
    """The Hessians of a block's layers, by name; all batches move behind the block."""
    sums = Hessians()
    for batch in range(len(inputs.batches)):
        read, inputs.batches[batch] = layer_inputs(block, names, partial(inputs.run, number, block, batch))
        for name, x in read.items():
            sums.add(name, x)
    return {name: sums.mean(name) for name in sums.sums}


def _rounded(
    model: LanguageModel, name: str, scheme: QuantScheme, config: AWQConfig, importance: Tensor | None
) -> QuantizedTensor:
    return quantize_tensor(_weight(model, name), scheme, search=config.clip, importance=importance)


def _outside_blocks(
    model: LanguageModel, schemes: QuantPlan, windows: Tensor
) -> list[tuple[str, Tensor | None]]:
    """The matrices outside the blocks, each with the Hessian of what it reads in the original model, where it is an output
    matrix.
    """
    tied = set(tied_heads(model).values())
    names = [name for name in schemes if not name.startswith(BLOCKS)]
    if not any(name == HEAD or name in tied for name in names):
        return [(name, None) for name in names]
    sums = Hessians()
    for rows in windows.split(max(1, TOKENS_PER_BATCH // windows.shape[1])):
        sums.add(HEAD, input_of(model, HEAD, partial(model, rows)))
    hessian = sums.mean(HEAD)
    looked_up = LOOKUP_WEIGHT * hessian.diagonal().mean() * torch.eye(len(hessian))
    return [
        (name, hessian + looked_up if name in tied else hessian if name == HEAD else None) for name in names
    ]


def _inside(schemes: QuantPlan, number: int) -> list[str]:
    """The matrices of a block, by their names inside it."""
    prefix = f"{BLOCKS}{number}."
    return [name.removeprefix(prefix) for name in schemes if name.startswith(prefix)]


def _weight(model: LanguageModel, name: str) -> Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight
