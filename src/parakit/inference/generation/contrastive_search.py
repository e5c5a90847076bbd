"""Contrastive search (Su et al. 2022, "A Contrastive Framework for Neural Text Generation", equation 5).

Of the `top_k` likeliest next tokens v the one with the largest (1 - alpha) p(v) - alpha max_j cos(h_v, h_j) continues the
completion: h are the vectors before the head, h_v that of v behind the tokens so far, j all tokens so far, the prompt
included. Nothing is drawn. A step runs the `top_k` candidates as a batch of one token each, so it costs about what a step
of as many prompts costs.

Shapes: T tokens so far, K candidates, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch.nn import functional

from parakit.inference.batching import evaluation_mode, require_finite
from parakit.inference.capabilities import require_capability
from parakit.inference.config import ContrastiveConfig
from parakit.inference.generation.completion import check_prompt, max_completion
from parakit.inference.generation.decoding import token_histories
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.rules import GenerationRules, request_rules
from parakit.inference.generation.steps.model_steps import NextTokenModel, allocate_cache
from parakit.model.quantized import weight_like


def contrastive_search(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: ContrastiveConfig,
    stop_ids: Collection[int] = (),
    *,
    rules: GenerationRules | None = None,
) -> list[list[int]]:
    """The new ids of each prompt, one prompt after the other; ends and errors as for `generate_ids`."""
    require_capability(model, "generate")
    for prompt in prompts:
        check_prompt(len(prompt), model.config.max_seq_len)
    with evaluation_mode(model):
        return [_search(model, prompt, config, stop_ids, rules) for prompt in prompts]


@torch.inference_mode()
def _search(
    model: NextTokenModel,
    prompt: Sequence[int],
    config: ContrastiveConfig,
    stop_ids: Collection[int],
    rules: GenerationRules | None,
) -> list[int]:
    limit = max_completion(len(prompt), config, model.config.max_seq_len)
    if limit == 0:
        return []
    rules = request_rules(rules, config, stop_ids)
    [history] = token_histories(model, [prompt], config)
    cache = allocate_cache(model, [prompt], limit, config.cache_dtype)
    hidden = _hidden(model, cache, [prompt])[0]  # (T, D)
    logits = model.logits(hidden[-1])  # (V,)
    n_candidates = min(config.top_k, len(logits))
    cache.select([0] * n_candidates)
    context = hidden.new_empty(len(prompt) + limit, hidden.shape[1], dtype=torch.float32)  # unit vectors
    context[: len(prompt)] = functional.normalize(hidden.float(), dim=-1)
    while True:
        scores = require_finite(logits.float(), "logits")
        if rules is not None:
            scores = rules.apply(scores[None], [history])[0]
        probabilities, ids = scores.softmax(-1).topk(n_candidates)
        hidden = _hidden(model, cache, ids[:, None].tolist())[:, 0]  # (K, D)
        vectors = functional.normalize(hidden.float(), dim=-1)
        likeness = (vectors @ context[: len(history.token_ids)].T).amax(-1)
        contrast = (1 - config.penalty_alpha) * probabilities - config.penalty_alpha * likeness
        best = int(contrast.masked_fill(probabilities == 0, float("-inf")).argmax())  # forbidden stays so
        context[len(history.token_ids)] = vectors[best]
        history.token_ids.append(int(ids[best]))
        if history.token_ids[-1] in stop_ids or history.n_new == limit:
            return history.token_ids[len(prompt) :]
        logits = model.logits(hidden[best])
        cache.select([best] * n_candidates)


def _hidden(model: NextTokenModel, cache: KVCache, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """The vectors (B, T, D) of each row's new tokens, as many in each."""
    n_new = len(rows[0])
    rows = cache.to_run(rows)
    input_ids = torch.tensor(rows, device=weight_like(model.lm_head).device)
    hidden = model.hidden(
        input_ids,
        position_ids=cache.position_ids(input_ids.shape[1]),
        attention_mask=cache.attention_mask(input_ids.shape[1]),
        cache=cache,
    )
    return hidden[:, -n_new:]
