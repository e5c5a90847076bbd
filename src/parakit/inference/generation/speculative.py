"""Speculative decoding (Leviathan et al. 2023; Chen et al. 2023): drafted tokens are checked in one pass, and the completion
is distributed exactly as without drafts.

A draft of k tokens runs through the model together with the newest token: k + 1 positions for about the time of one where
memory is what limits. From the first on each drafted token is kept or replaced. What nobody drew (greedy drafts, prompt
look-up) is kept where it is what the model itself chooses with the request's random number: the completion is then the one
of plain decoding, token by token. A token x that a draft model drew from its probabilities q is kept with probability
min(1, p(x) / q(x)), else one is drawn from max(p - q, 0), rescaled; p has all rules, filters and constraints of the request.
Completions are a pure function of the seed.

Shapes: K drafted tokens, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Generator, Sequence

import torch
from torch import Tensor

from parakit.inference.batching import evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.completion import SpeculationStatistics, check_prompt, max_completion
from parakit.inference.generation.constraints import Constraint
from parakit.inference.generation.drafts import Draft, Speculation, Uniforms, require_no_recurrence
from parakit.inference.generation.filters import draw
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.rules import GenerationRules
from parakit.inference.generation.sampling import (
    Choice,
    RequestSampler,
    choose_tokens,
    distribution,
    request_seeds,
    with_log_probabilities,
)
from parakit.inference.generation.steps.model_steps import allocate_cache, make_decode_step, prefill
from parakit.inference.generation.steps.native_step import native_step
from parakit.model.heads import LanguageModel


def speculative_choices(
    model: LanguageModel,
    prompt: Sequence[int],
    config: SamplingConfig,
    speculation: Speculation,
    stop_ids: Collection[int] = (),
    *,
    seed: int | None = None,
    rules: GenerationRules | None = None,
    constraint: Constraint | None = None,
    statistics: SpeculationStatistics | None = None,
) -> Generator[Choice, None, None]:
    """Complete one prompt token by token, as `stream_choices` does, with drafts. `statistics` is filled in.

    Raises `UserError` as `stream_choices`, and for a model with recurrent layers.
    """
    require_capability(model, "generate")
    require_no_recurrence(model, "the model")
    check_prompt(len(prompt), model.config.max_seq_len)
    seed = request_seeds(config.seed, 1)[0] if seed is None else seed
    limit = max_completion(len(prompt), config, model.config.max_seq_len)
    statistics = SpeculationStatistics() if statistics is None else statistics
    if limit == 0:
        return
    start = None if constraint is None else constraint.start()
    sampler = RequestSampler(config, prompt, seed, rules, limit, start, stop_ids=stop_ids)
    drafter = speculation.drafter(prompt, limit, model.config.vocab_size, seed, stop_ids)
    verifier = Verifier(model, allocate_cache(model, [prompt], limit, config.cache_dtype), seed)
    n_draft = drafter.max_tokens
    with evaluation_mode(model):
        logits, draft = prefill(model, verifier.cache, [prompt]), Draft([])
        for number in itertools.count():
            if number:  # the prompt's pass does not count
                statistics.n_forwards += 1
                statistics.n_drafted += len(draft.token_ids)
            n_kept = 0
            for choice, kept in verifier.choices(sampler, logits, draft):
                n_kept += kept
                statistics.n_accepted += kept
                statistics.n_tokens += number > 0
                yield choice
                if choice.token_id in stop_ids or sampler.n_new == limit:
                    return
            if draft.token_ids:
                whole = n_kept == len(draft.token_ids)
                n_draft = min(2 * n_draft, drafter.max_tokens) if whole else max(1, n_kept + 1)
            room = verifier.room(sampler, limit)
            draft = drafter.propose(sampler, min(n_draft, room)) if room > 0 else Draft([])
            logits = verifier.run(sampler, draft.token_ids)


class Verifier:
    """The model and its cache: runs drafts, and decides which of their tokens stay."""

    def __init__(self, model: LanguageModel, cache: KVCache, seed: int) -> None:
        self.model, self.cache = model, cache
        self._native, self._step = native_step(model), make_decode_step(model)
        self.uniforms = Uniforms(seed, "accept")

    def room(self, sampler: RequestSampler, limit: int) -> int:
        """How many tokens may be drafted: the limit leaves them a place, and all positions rotate by the same angles."""
        room, length = limit - sampler.n_new - 1, len(sampler.history.token_ids)
        switch = self.cache.switch_len
        if switch is not None and length <= switch:
            room = min(room, switch - length)
        return room

    @torch.inference_mode()
    def run(self, sampler: RequestSampler, drafted: Sequence[int]) -> Tensor:
        """Logits (K + 1, V) after the newest token and each drafted one; the cache forgets what was rejected before."""
        history, cache = sampler.history.token_ids, self.cache
        cache.truncate([len(history) - 1])
        token_ids = [history[-1], *drafted]
        if len(token_ids) == 1:
            return self._step(cache, torch.tensor(token_ids, device=cache.keys[0].device))
        if self._native is not None:
            return self._native.run_row(cache, token_ids)
        token_ids = list(cache.to_run([token_ids])[0])
        hidden = self.model.hidden(
            torch.tensor([token_ids], device=cache.keys[0].device),
            position_ids=cache.position_ids(len(token_ids)),
            attention_mask=cache.attention_mask(len(token_ids)),
            cache=cache,
        )
        return self.model.logits(hidden[0, -1 - len(drafted) :])

    @torch.inference_mode()
    def choices(
        self, sampler: RequestSampler, logits: Tensor, draft: Draft
    ) -> Generator[tuple[Choice, bool], None, None]:
        """The next tokens by logits (K + 1, V), each with whether it is the drafted one; the first that is not is the last.

        Raises `UserError` where the model, its rules or its constraint leave no token.
        """
        for i in range(len(logits)):
            drafted = draft.token_ids[i] if i < len(draft.token_ids) else None
            if drafted is None or draft.probabilities is None:
                choice = choose_tokens([sampler], logits[i : i + 1])[0]
                if choice.error is not None:
                    raise choice.error
            else:
                choice = self._accept_or_replace(sampler, logits[i], drafted, draft.probabilities[i])
            yield choice, choice.token_id == drafted
            if choice.token_id != drafted:
                return

    def _accept_or_replace(
        self, sampler: RequestSampler, logits: Tensor, drafted: int, probabilities: Tensor
    ) -> Choice:
        """Keep the drafted token with probability min(1, p / q), else draw from max(p - q, 0)."""
        p, q = distribution(sampler, logits).double(), probabilities.double()
        position, token_id = sampler.n_new, drafted
        if self.uniforms[position] * q[drafted] >= p[drafted]:
            rest = (p - q).clamp_(min=0)
            rest = rest if bool(rest.any()) else p  # p = q but for rounding
            uniform = torch.tensor([sampler.uniform(position)], dtype=torch.float64, device=p.device)
            token_id = int(draw(rest.log()[None], uniform))
        sampler.accept(token_id)
        n_alternatives = sampler.config.log_probabilities
        return (
            Choice(token_id)
            if n_alternatives is None
            else with_log_probabilities(token_id, logits, n_alternatives)
        )
