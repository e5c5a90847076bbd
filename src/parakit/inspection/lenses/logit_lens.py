"""The logit lens: what a model would predict if it stopped after each layer.

The vectors of the residual stream behind every layer pass through the final norm and the output matrix, as those of the
last layer do (nostalgebraist 2020). With a `TunedLens` they first pass through the layer's affine translator (Belrose et
al. 2023). How far a layer is from the output is the divergence KL(output || layer) in nats, which is zero behind the last.

Row t of a decoder predicts token t + 1, row t of an encoder token t. Shapes: L layers, R = L + 1 places (the embedding,
then behind each layer), T tokens, K candidates, V vocabulary, D d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.inference.batching import evaluation_mode, require_finite
from parakit.inference.loaded_model import Model
from parakit.inspection.capture import capture
from parakit.inspection.inputs import ModelInput, encode_input, run, token_text
from parakit.inspection.sites import stacks
from parakit.model.heads import MaskedLanguageModel, SequenceToSequence, TokenPredictor
from parakit.model.precision import at_least_float32

CHUNK = 128  # positions whose logits over the vocabulary are in memory at once


class Translator(Protocol):
    """What maps the vectors of a place to those that the last layer would have; see `tuned_lens`."""

    def translate(self, place: int, vectors: Tensor) -> Tensor:
        """Vectors (..., D) of the place (0: the embedding) to such vectors."""
        ...


@dataclass(frozen=True)
class Lens:
    """What each place predicts at each position. Probabilities and KL are float32, ids int64."""

    tokens: tuple[str, ...]
    """What the model read, (T,)."""
    places: tuple[str, ...]
    """"embedding", "1", ..., "L": behind which layer."""
    top_ids: np.ndarray = field(repr=False)  # (R, T, K), likeliest first
    top_probabilities: np.ndarray = field(repr=False)  # (R, T, K)
    top_tokens: tuple[tuple[tuple[str, ...], ...], ...] = field(repr=False)  # (R, T, K)
    kl: np.ndarray = field(repr=False)  # (R, T) nats: KL(output || place)
    next_probabilities: np.ndarray = field(repr=False)
    """(R, T): of the token that follows in the text (an encoder: that is there); NaN where none is."""
    tuned: bool = False

    @property
    def mean_kl(self) -> np.ndarray:
        """(R,): the mean over the positions."""
        return self.kl.mean(1)

    def to_json(self) -> JsonObject:
        """Everything, as JSON has it; a missing probability is null."""
        following = [[None if np.isnan(p) else float(p) for p in row] for row in self.next_probabilities]
        return {
            "tuned": self.tuned,
            "tokens": list(self.tokens),
            "places": list(self.places),
            "top_ids": self.top_ids.tolist(),
            "top_tokens": [[list(k) for k in row] for row in self.top_tokens],
            "top_probabilities": self.top_probabilities.tolist(),
            "kl": self.kl.tolist(),
            "mean_kl": self.mean_kl.tolist(),
            "next_probabilities": following,
        }


def logit_lens(
    model: Model,
    text: str | ModelInput,
    *,
    target: str | None = None,
    n_candidates: int = 5,
    translator: Translator | None = None,
) -> Lens:
    """The lens of a text; of an encoder-decoder that of its decoder, for `target` or what the model writes.

    `translator`: a `TunedLens` of this model. Raises `UserError` for a model without an output matrix, and as
    `encode_input`.
    """
    network = require_output_matrix(model)
    given = encode_input(model, text, target) if isinstance(text, str) else text
    states = residual_stream(model, given)  # (R, T, D)
    following = _following(network, given)
    found: dict[str, list[Tensor]] = {"ids": [], "probabilities": [], "kl": [], "next": []}
    with torch.no_grad(), evaluation_mode(network):
        for start in range(0, len(given.token_ids), CHUNK):
            columns = slice(start, start + CHUNK)
            for key, value in _read(
                network, states[:, columns], following[columns], n_candidates, translator
            ).items():
                found[key].append(value)
    joined = {key: torch.cat(values, 1).cpu() for key, values in found.items()}
    ids = joined["ids"].numpy()
    texts = {token_id: token_text(_target(model), token_id) for token_id in set(ids.flatten().tolist())}
    return Lens(
        given.tokens,
        place_names(len(states)),
        ids,
        joined["probabilities"].numpy(),
        tuple(tuple(tuple(texts[i] for i in one) for one in row) for row in ids.tolist()),
        joined["kl"].numpy(),
        joined["next"].numpy(),
        translator is not None,
    )


def require_output_matrix(model: Model) -> TokenPredictor:
    """The network, if it predicts tokens; `UserError` otherwise."""
    if not isinstance(model.network, TokenPredictor):
        raise UserError(
            f"{model.path}: has no output matrix to read layers with: it is {model.kind.description}",
            "a lens needs a model that predicts tokens; attention and neighbours of vectors work for this one",
        )
    return model.network


def residual_stream(model: Model, given: ModelInput) -> Tensor:
    """(R, T, D): what enters the first layer, and what leaves each; of an encoder-decoder, the decoder's."""
    side = output_stack(model.network)
    n_layers = len(stacks(model.network)[side].blocks)
    names = [f"{side}blocks.{layer}.input" for layer in range(n_layers)]
    names.append(f"{side}blocks.{n_layers - 1}.output")
    with capture(model.network, names) as found:
        run(model, given)
    n_tokens = len(given.token_ids)
    return torch.stack([found[name][0, -n_tokens:] for name in names])  # without a trained prompt


def output_stack(network: Any) -> str:
    """Which stack feeds the output matrix, as `stacks` names it."""
    return "decoder." if isinstance(network, SequenceToSequence) else ""


def place_names(n_places: int) -> tuple[str, ...]:
    """ "embedding", then the layers' numbers from 1."""
    return ("embedding", *(str(number) for number in range(1, n_places)))


def read_out(network: TokenPredictor, vectors: Tensor) -> Tensor:
    """Vectors (..., D) of the residual stream to logits (..., V), as those of the last layer become logits."""
    stack: Any = stacks(network)[output_stack(network)]
    hidden = stack.final_norm(vectors)
    if stack.output_projection is not None:
        hidden = stack.output_projection(hidden)
    if not isinstance(network, MaskedLanguageModel):  # whose `logits` includes the transform
        hidden = network.transform(hidden)
    return at_least_float32(network.logits(hidden))


def divergence(output: Tensor, other: Tensor) -> Tensor:
    """KL(output || other) in nats, (...), of log-probabilities (..., V)."""
    return (output.exp() * (output - other)).sum(-1)


def _read(
    network: TokenPredictor,
    states: Tensor,
    following: Tensor,
    n_candidates: int,
    translator: Translator | None,
) -> dict[str, Tensor]:
    """What `logit_lens` collects, for some positions: states (R, T, D), following (T,), -1 for none."""
    output = require_finite(read_out(network, states[-1]), "logits").log_softmax(-1)  # (T, V)
    rows: dict[str, list[Tensor]] = {"ids": [], "probabilities": [], "kl": [], "next": []}
    for place, vectors in enumerate(states):
        moved = vectors if translator is None else translator.translate(place, vectors)
        logs = output if place == len(states) - 1 else read_out(network, moved).log_softmax(-1)
        best = logs.topk(min(n_candidates, logs.shape[-1]), dim=-1)
        rows["ids"].append(best.indices)
        rows["probabilities"].append(best.values.exp())
        rows["kl"].append(divergence(output, logs))
        of_next = logs.gather(-1, following.clamp(min=0)[:, None])[:, 0].exp()
        rows["next"].append(of_next.masked_fill(following < 0, torch.nan))
    return {key: torch.stack(values) for key, values in rows.items()}


def _following(network: TokenPredictor, given: ModelInput) -> Tensor:
    """(T,): the id that each position should predict, -1 for none."""
    ids: Sequence[int] = given.token_ids
    wanted = list(ids) if isinstance(network, MaskedLanguageModel) else [*ids[1:], -1]
    return torch.tensor(wanted, device=next(network.parameters()).device)


def _target(model: Model) -> Any:
    return model.tokenizer.target if isinstance(model.network, SequenceToSequence) else model.tokenizer
