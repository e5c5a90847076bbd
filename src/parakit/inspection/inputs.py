"""A text as a model reads it, with what each token shows, and one forward pass over it.

Decoders read a text as they would continue it, encoders with their special tokens. An encoder-decoder reads the text as
its source; its target is given, or is what the model writes greedily. Text never becomes a control token.

Shapes: T tokens, S source tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from parakit.common.errors import UserError
from parakit.inference.batching import evaluation_mode
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.completion import check_ids, prompt_ids
from parakit.inference.generation.seq_to_seq import generate_sequences, target_stop_ids
from parakit.inference.loaded_model import Model
from parakit.inference.prediction.batches import check_length, context_window, encode_texts
from parakit.model.heads import LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.model.precision import at_least_float32
from parakit.tokens.tokenizer.languages import language_tokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer

HAS_VOCABULARY = (LanguageModel, MaskedLanguageModel, SequenceToSequence)
MAX_TARGET = 64  # tokens that an encoder-decoder writes where no target is given


@dataclass(frozen=True)
class ModelInput:
    """The ids that a model reads, and each token as it is shown."""

    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    token_type_ids: tuple[int, ...] = ()
    source_ids: tuple[int, ...] = ()
    """Of an encoder-decoder: what its encoder reads; `token_ids` are the decoder's inputs, the start id first."""
    source_tokens: tuple[str, ...] = ()

    def shown(self, stack: str) -> tuple[str, ...]:
        """The tokens of a stack: those of the source for `encoder.`."""
        return self.source_tokens if stack == "encoder." else self.tokens


def encode_input(model: Model, text: str, target: str | None = None) -> ModelInput:
    """`text` for this model; `target` only for an encoder-decoder. Raises `UserError` for a text without tokens, one over
    the context window, and a target that the model cannot read.
    """
    network, tokenizer = model.network, model.tokenizer
    if isinstance(network, SequenceToSequence):
        return _encode_pair(network, tokenizer, text, target)
    if target is not None:
        raise UserError("a target was given, and only an encoder-decoder reads one", "leave it out")
    types: Sequence[int] = ()
    if isinstance(network, LanguageModel):
        token_ids = prompt_ids(tokenizer, text)
        check_length(len(token_ids), context_window(network.config), 1, 1)
    else:
        encoded = encode_texts(tokenizer, [text], network.config)[0]
        token_ids, types = encoded.token_ids, encoded.token_type_ids
    return ModelInput(tuple(token_ids), token_texts(tokenizer, token_ids), tuple(types))


def input_of_ids(model: Model, token_ids: Sequence[int]) -> ModelInput:
    """Token ids as they are, of a decoder or an encoder. Raises `UserError` as `encode_input`."""
    check_length(len(token_ids), context_window(model.network.config), 1, 1)
    check_ids(token_ids, _vocab_size(model.network.config))
    return ModelInput(tuple(token_ids), token_texts(model.tokenizer, token_ids))


def _vocab_size(config: Any) -> int:
    return int(getattr(config, "encoder", config).vocab_size)


def _encode_pair(
    network: SequenceToSequence, tokenizer: Tokenizer, text: str, target: str | None
) -> ModelInput:
    source = encode_texts(tokenizer, [text], network.config)[0].token_ids
    languages = language_tokens(tokenizer, network.config.decoder_start_id, None, None)
    source = languages.apply([source], tokenizer)[0]
    start = network.config.decoder_start_id if languages.start_id is None else languages.start_id
    stop_ids = target_stop_ids(tokenizer)
    if target is None:
        greedy = SamplingConfig(temperature=0.0, max_new_tokens=MAX_TARGET)
        target_ids = generate_sequences(network, [source], greedy, stop_ids, start_id=start)[0]
        target_ids = target_ids[:-1] if target_ids and target_ids[-1] in stop_ids else target_ids
    else:
        forced = [] if languages.forced_bos_id is None else [languages.forced_bos_id]
        target_ids = [*forced, *tokenizer.target.encode(target)]
    token_ids = [start, *target_ids]
    limit = network.config.decoder.max_seq_len
    if len(token_ids) > limit:
        raise UserError(
            f"the target has {len(token_ids)} tokens, and the decoder's context window holds {limit}",
            "shorten it",
        )
    return ModelInput(
        tuple(token_ids),
        token_texts(tokenizer.target, token_ids),
        source_ids=tuple(source),
        source_tokens=token_texts(tokenizer, source),
    )


def token_texts(tokenizer: Tokenizer, token_ids: Sequence[int]) -> tuple[str, ...]:
    """Each token as text, with the space before a word where the token holds one."""
    return tuple(token_text(tokenizer, token_id) for token_id in token_ids)


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """One token as text; as the vocabulary writes it where it decodes to nothing."""
    if not 0 <= token_id < tokenizer.vocab_size:
        return f"[{token_id}]"  # a row of the embedding without a token
    if tokenizer.kind == "byte_bpe":
        return tokenizer.decode([token_id], skip_special=False)
    token = tokenizer.token(token_id)
    if tokenizer.kind not in ("wordpiece", "word") or token_id in tokenizer.control_ids:
        return token.replace("▁", " ")
    return token[2:] if token.startswith("##") else f" {token}"


def run(model: Model, given: ModelInput) -> torch.Tensor:
    """One forward pass over one text, in at least float32: logits (T, V) of a language model, scores (L,) or (T, L) of a
    classifier, the reward (), the pooled vector of an embedder.
    """
    with torch.no_grad():
        return run_batch(model.network, [given])[0]


def run_batch(
    network: Any, given: Sequence[ModelInput], positions: Sequence[int] | None = None
) -> torch.Tensor:
    """As `run`, over several texts of equal lengths: a row each; with gradients where they are on. `positions`: of a model
    with a vocabulary, the logits of these only.
    """
    assert len({(len(one.token_ids), len(one.source_ids)) for one in given}) == 1, "rows of one length"
    device = next(network.parameters()).device
    ids = torch.tensor([one.token_ids for one in given], device=device)
    context: dict[str, Any] = {}
    with evaluation_mode(network):
        if isinstance(network, SequenceToSequence):
            sources = torch.tensor([one.source_ids for one in given], device=device)
            context["source"] = network.encode(sources)
        elif network.config.n_token_types and given[0].token_type_ids:
            types = torch.tensor([one.token_type_ids for one in given], device=device)
            context["token_type_ids"] = types
        if not isinstance(network, HAS_VOCABULARY):
            context["attention_mask"] = torch.ones_like(ids, dtype=torch.bool)
            return at_least_float32(network(ids, **context))
        hidden = network.hidden(ids, **context)
        return at_least_float32(network.logits(hidden if positions is None else hidden[:, list(positions)]))
