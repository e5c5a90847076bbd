"""Parameters: tied embeddings, weight decay, and a model that is deterministic in evaluation."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn

from parakit.model.adapters import adapter_parameters
from parakit.model.adapters.lora import LowRankWrapper
from parakit.model.adapters.trainable_tokens import TrainableTokens, TrainableTokensHead
from parakit.model.layers.positions import LearnedPositions
from parakit.model.quantized import quantized_modules
from parakit.model.quantized.layers import share_weight
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import outputs
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.gradient_sketch import list_names
from parakit.training.doctor.probes import row_slice
from parakit.training.doctor.row_formats import ALL, DECODER, SEQUENCES
from parakit.training.optimizers import optimizer as optimizers

check = partial(registry.check, subject="Parameters", runs_model=True)


@check(
    "tied-embeddings",
    passes=0,
    applies_to=(*DECODER, *SEQUENCES, "dpo"),
    prevents="Embedding and output matrix are untied by a conversion, or tied against the config: they are counted, trained"
    " or saved twice, or not at all.",
    noticed_by="The two matrices are compared with tie_embeddings, and the number of parameters with the config's.",
    remedy="Build the model from its config.",
)
def tie_differs(context: CheckContext) -> str | None:
    model = context.model
    tied = share_weight(_adapted_layer(model.lm_head), _adapted_layer(model.trunk.token_embedding))
    if tied != model.config.tie_embeddings:
        is_tied = "is" if tied else "is not"
        return f"tie_embeddings: {model.config.tie_embeddings}, and the output matrix {is_tied} the embedding"
    n_adapter = sum(p.numel() for p in adapter_parameters(model).values())
    n = sum(p.numel() for p in model.parameters()) - n_adapter
    n += sum(math.prod(module.shape) for module in quantized_modules(model).values())
    expected = model.trunk.config.n_params()["total"]
    return None if n == expected else f"the model has {n:,} parameters, its config {expected:,}"


def _adapted_layer(layer: nn.Module) -> nn.Module:
    """The layer whose matrix an adapter adds to; a full copy has a matrix of its own."""
    if isinstance(layer, LowRankWrapper | TrainableTokens | TrainableTokensHead):
        return layer.base
    return layer


@check(
    "decay-on-norms",
    passes=0,
    applies_to=ALL,
    prevents="Weight decay, or an optimizer for matrices, acts on norms, biases, embeddings or heads, which it harms.",
    noticed_by="The optimizer's parameter groups are compared with the modules of the parameters.",
    remedy="Group parameters by their role: decay is for the matrices of the blocks.",
)
def decay_on_norms(context: CheckContext) -> str | None:
    model = context.model
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | LearnedPositions)}
    wrong = [
        name
        for name, parameter in model.named_parameters()
        if optimizers.is_matrix(name, parameter)
        and (parameter.ndim < 2 or id(parameter) in looked_up or name.split(".")[0].endswith("_head"))
    ]
    return f"weight decay applies to {list_names(wrong)}" if wrong else None


@check(
    "dropout-in-evaluation",
    applies_to=ALL,
    prevents="Dropout stays on in evaluation, so measurements and generated text are random.",
    noticed_by="One row is evaluated twice with different seeds; the outputs must be equal.",
    remedy="Use nn.Dropout, and call model.eval().",
)
def dropout_in_evaluation(context: CheckContext) -> str | None:
    row = row_slice(context.probe, 0, 1)
    torch.manual_seed(1)
    first = outputs(context.model, row)
    torch.manual_seed(2)
    return None if torch.equal(first, outputs(context.model, row)) else "two evaluations of one row differ"
