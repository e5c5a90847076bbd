"""Vectors of texts: from an `Embedder`, or from the trunk of a model that predicts tokens.

An embedder's folder says what is done with a text first: a prompt in front of it, lower case, a length at which it is cut.
The vectors are those of sentence-transformers.

Shapes: N texts, B of them in a batch, T tokens, P width of a text's vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.common.settings import closest_match
from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, require_finite
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.batches import Text, batches, context_window, encode_texts
from parakit.model.config import EmbedderConfig, EmbedderPooling
from parakit.model.heads import Embedder, LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.model.layers.pooling import text_vectors
from parakit.tokens.config import TooLong
from parakit.tokens.tokenizer.special_tokens_template import special_tokens_template
from parakit.tokens.tokenizer.tokenizer import Tokenizer


class EmbeddedTexts(NamedTuple):
    """Vectors (N, P) float32, and of each text the tokens that went through the model."""

    vectors: np.ndarray
    n_tokens: list[int]


def embed(
    model: Embedder | MaskedLanguageModel | LanguageModel | SequenceToSequence,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    **settings: Any,
) -> np.ndarray:
    """The vectors of `embed_texts`, whose settings these are."""
    return embed_texts(model, tokenizer, texts, **settings).vectors


def vector_width(model: Any, pooling: EmbedderPooling | None = None) -> int:
    """The dimensions of the vectors that `embed_texts` gives."""
    own = model.pooling if isinstance(model, Embedder) else EmbedderConfig()
    config = own if pooling is None else own.replace(pooling=pooling)
    return int(config.d_vector(model.config.d_output))


@torch.inference_mode()
def embed_texts(
    model: Embedder | MaskedLanguageModel | LanguageModel | SequenceToSequence,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    pooling: EmbedderPooling | None = None,
    normalize: bool | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    too_long: TooLong | None = None,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> EmbeddedTexts:
    """One vector per text, (N, P) float32, with the count of its tokens; of an encoder-decoder, its encoder's vectors.

    `pooling` and `normalize` (to length 1) default to the embedder's own, else to the mean and True. Special tokens are
    part of the mean. `prompt` is put before each text (the first of a pair), or the embedder's prompt `prompt_name`;
    default: its default prompt, where it has one. A text over the embedder's `max_seq_len` is cut there, which one line
    says; over the model's own window it is a `UserError` unless `too_long` is "truncate". Further ones: a model without
    vectors, a prompt that the model does not have.
    """
    require_capability(model, "embed")
    own = model.pooling if isinstance(model, Embedder) else EmbedderConfig()
    changes: dict[str, Any] = {"pooling": pooling, "normalize": normalize}
    config = own.replace(**{name: value for name, value in changes.items() if value is not None})
    layers = model.dense_layers if isinstance(model, Embedder) else torch.nn.ModuleList()
    if layers and config.widths(1)[0] != own.widths(1)[0]:
        raise UserError(
            f"pooling {pooling!r} gives {config.widths(1)[0]} vectors, and the model's dense layers take {own.widths(1)[0]}",
            "leave the pooling out",
        )
    prefix = _prompt(own, prompt, prompt_name)
    limit = min(context_window(model.config), own.max_seq_len or context_window(model.config))
    too_long = too_long or ("refuse" if own.max_seq_len is None else "truncate")
    prepared = [_prepared(text, prefix, own) for text in texts]
    inputs = encode_texts(tokenizer, prepared, model.config, too_long, limit)
    if n_cut := sum(one.truncated for one in inputs):
        log(f"{n_cut} of {len(texts)} texts are longer than {limit} tokens and are cut there")
    n_prompt = 0 if own.include_prompt else _n_prompt_tokens(model, tokenizer, prefix, own, limit)
    trunk: Any = model.trunk.encoder if isinstance(model, SequenceToSequence) else model.trunk
    vectors = np.zeros((len(texts), vector_width(model, pooling)), np.float32)
    with evaluation_mode(model):
        for batch in batches(model, inputs, trunk.config.n_token_types, micro_batch_size):
            hidden = trunk(batch.input_ids, attention_mask=batch.attention_mask, **batch.context)  # (B, T, D)
            found = text_vectors(hidden, batch.attention_mask, config, layers, n_prompt)
            vectors[batch.rows] = require_finite(found.float(), "vectors").cpu().numpy()
    return EmbeddedTexts(vectors, [len(one.token_ids) for one in inputs])


def _prompt(config: EmbedderConfig, prompt: str | None, name: str | None) -> str:
    """The text to put before each text; see `embed`."""
    if prompt is not None:
        if name is not None:
            raise UserError(f"a prompt and the prompt name {name!r} were given", "give one of them")
        return prompt
    name = config.default_prompt if name is None else name
    if name is None:
        return ""
    if name not in config.prompts:
        close = closest_match(name, config.prompts)
        known = ", ".join(config.prompts) or "none"
        raise UserError(
            f"the model has no prompt {name!r}",
            f"did you mean {close!r}? It has: {known}" if close else f"its prompts: {known}",
        )
    return config.prompts[name]


def _prepared(text: Text, prefix: str, config: EmbedderConfig) -> Text:
    if isinstance(text, tuple):
        first, second = text
        return config.cased(prefix + first), config.cased(second)
    return config.cased(prefix + text)


def _n_prompt_tokens(
    model: Any, tokenizer: Tokenizer, prefix: str, config: EmbedderConfig, limit: int
) -> int:
    """Tokens of the prompt alone with what the tokenizer puts before it, and not its last special token."""
    if not prefix:
        return 0
    text = config.cased(prefix)
    encoded = encode_texts(tokenizer, [text], model.config, "truncate", limit)[0]
    after = special_tokens_template(tokenizer, model.config.family, 1).parts[-1]
    return len(encoded.token_ids) - (len(after) > 0)
