"""What the error of each matrix contributes to the divergence of a model that is rounded already.

KL(original || rounded) is nearly quadratic in the errors E of the weights: KL = 1/2 E^T F E. Its gradient by the weights of the
rounded model is F E, so half of the product of that gradient with the error of one matrix is what this matrix contributes;
what two matrices cost together is shared between them, and the contributions add up to the KL. One backward pass measures all
of them, whatever a method did to make errors cancel; `fisher` takes them to be independent, as those of plain rounding are.

Shapes: N windows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parakit.compression.quantization.fisher import only_gradients_of
from parakit.compression.quantization.measurement import OriginalOutputs
from parakit.model.heads import LanguageModel


def measure_contributions(
    model: LanguageModel, outputs: OriginalOutputs, originals: Mapping[str, Tensor]
) -> dict[str, float]:
    """KL in nats a token that each matrix of `originals` contributes, where `model` has the rounded weights and `originals` has
    those that `outputs` come from, by the names of the matrices. Holds a gradient of every matrix; the model stays as it is.
    """
    found = dict.fromkeys(originals, 0.0)
    with only_gradients_of(model, originals) as matrices:
        for number, window in enumerate(outputs.windows.split(1)):
            kl = outputs.divergence(model, number, model(window)[0])
            gradients = torch.autograd.grad(kl, list(matrices.values()), allow_unused=True)
            with torch.no_grad():
                for (name, matrix), gradient in zip(matrices.items(), gradients, strict=True):
                    if gradient is not None:
                        error = matrix - originals[name]
                        found[name] += 0.5 * float((gradient * error).sum(dtype=torch.float64))
    return {name: total / len(outputs.windows) for name, total in found.items()}
