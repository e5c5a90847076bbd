"""Beam search, and in groups diverse beam search.

The rule is that of transformers' `generate(num_beams=...)`, so both give the same tokens. Each step extends each of
`n_beams` unfinished completions by every token and considers the best (1 + number of stop ids) * n_beams of these. One
that ends (a stop id, or the limit) counts only if it is among the best n_beams, with the score log probability /
tokens ** length_penalty, its stop id included; the best n_beams of the others continue. A prompt is done at the limit,
or when it has n_beams finished completions and `stop_when` is satisfied. One beam is greedy decoding. A prompt's result
does not depend on its batch. Penalties and forbidden tokens: see `rules`. Left out: sampling.

Diverse beam search (Vijayakumar et al. 2016) splits the beams into groups. Each is a search of its own; in each step a
token's score falls by `diversity_penalty` for every beam of an earlier group that goes on with it (Hamming diversity).

Shapes: B searches (prompts, or groups of prompts), K beams of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch.nn import functional

from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, require_finite, rows_by_length
from parakit.inference.capabilities import require_capability
from parakit.inference.config import BeamConfig
from parakit.inference.generation.completion import check_prompt, max_completion
from parakit.inference.generation.decoding import token_histories
from parakit.inference.generation.rules import GenerationRules, TokenHistory, request_rules
from parakit.inference.generation.steps.model_steps import (
    NextTokenModel,
    allocate_cache,
    make_decode_step,
    prefill,
)

FILLER_SCORE = -1e9  # of a beam that only fills the batch
BeamCandidate = tuple[float, int, int]  # score, beam, token


@dataclass(frozen=True)
class Beam:
    """A completion and its score: log probability / tokens ** length_penalty."""

    token_ids: list[int]
    score: float


def beam_search(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: BeamConfig,
    stop_ids: Collection[int] = (),
    *,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    rules: GenerationRules | None = None,
) -> list[list[Beam]]:
    """The `n_beams` best completions of each prompt, best first; ends and errors as for `generate_ids`.

    `micro_batch_size` limits the beams in flight. A prompt that fills the context window has one empty completion.
    """
    require_capability(model, "generate")
    for prompt in prompts:
        check_prompt(len(prompt), model.config.max_seq_len)
    results: list[list[Beam]] = [[] for _ in prompts]
    with evaluation_mode(model):
        for rows in rows_by_length(prompts, max(1, micro_batch_size // config.n_beams)):
            beams = beam_search_batch(model, [prompts[row] for row in rows], config, stop_ids, rules)
            for row, best in zip(rows, beams, strict=True):
                results[row] = best
    return results


@dataclass
class _Search:
    """The search of a prompt or of one of its groups: the prompt's index, its limit, the unfinished beams' tokens, the
    finished completions.
    """

    index: int
    limit: int
    unfinished: list[list[int]]
    finished: list[Beam] = field(default_factory=list)

    def advance(
        self, candidates: list[BeamCandidate], config: BeamConfig, stop_ids: Collection[int]
    ) -> list[BeamCandidate]:
        """Extend by the best (score, beam, token), best first; returns those that continue, none when the search is done."""
        n_beams = len(self.unfinished)
        n_tokens = len(self.unfinished[0]) + 1
        continuing: list[BeamCandidate] = []
        for rank, (score, beam, token_id) in enumerate(candidates):
            if token_id not in stop_ids and n_tokens < self.limit:
                continuing.append((score, beam, token_id))
            elif rank < n_beams:
                tokens = [*self.unfinished[beam], token_id]
                self.finished.append(Beam(tokens, score / n_tokens**config.length_penalty))
        self.finished = sorted(self.finished, key=lambda beam: -beam.score)[:n_beams]
        if not continuing or self._is_done(continuing[0][0], n_tokens, config):
            return []
        continuing = continuing[:n_beams]
        continuing += [(FILLER_SCORE, *continuing[0][1:])] * (n_beams - len(continuing))
        self.unfinished = [[*self.unfinished[beam], token_id] for _, beam, token_id in continuing]
        return continuing

    def _is_done(self, best_unfinished: float, n_tokens: int, config: BeamConfig) -> bool:
        if len(self.finished) < len(self.unfinished):
            return False
        if config.stop_when == "full":
            return True
        optimistic = config.stop_when == "impossible" and config.length_penalty > 0
        length = self.limit if optimistic else n_tokens
        return best_unfinished / length**config.length_penalty <= self.finished[-1].score


@torch.inference_mode()
def beam_search_batch(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: BeamConfig,
    stop_ids: Collection[int],
    rules: GenerationRules | None = None,
) -> list[list[Beam]]:
    """`beam_search` for one batch, from prefill to the last finished prompt; checks nothing."""
    rules = request_rules(rules, config, stop_ids)
    limits = [max_completion(len(prompt), config, model.config.max_seq_len) for prompt in prompts]
    begun = [] if rules is None else token_histories(model, prompts, config)
    open_prompts = [i for i, limit in enumerate(limits) if limit > 0]
    results: list[list[Beam]] = [[] if limit > 0 else [Beam([], 0.0)] for limit in limits]
    if not open_prompts:
        return results
    n_beams = config.n_beams // config.n_beam_groups
    searches = [
        _Search(i, limits[i], [[]] * n_beams) for i in open_prompts for _ in range(config.n_beam_groups)
    ]
    prompts = [prompts[i] for i in open_prompts]
    cache = allocate_cache(model, prompts, max(limits), config.cache_dtype)
    next_logits = make_decode_step(model)
    logits = prefill(model, cache, prompts)  # (prompts, V)
    copies = [row for row in range(len(prompts)) for _ in range(config.n_beams)]
    cache.select(copies)
    logits = logits[copies]  # (B K, V)
    scores = torch.full((len(searches), n_beams), FILLER_SCORE, device=logits.device)
    scores[:, 0] = 0  # all beams of a search are still equal
    n_candidates = n_beams * (1 + max(1, len(stop_ids)))
    while True:
        order, token_ids, beam_scores, active = [], [], [], []
        steps = functional.log_softmax(require_finite(logits.float(), "logits"), dim=-1)  # (B K, V)
        for row, continuing in enumerate(
            _advance(searches, steps, scores, n_candidates, config, stop_ids, rules, begun)
        ):
            if continuing:
                active.append(searches[row])
                beam_scores.append([score for score, _, _ in continuing])
                order += [row * n_beams + beam for _, beam, _ in continuing]
                token_ids += [token_id for _, _, token_id in continuing]
            else:
                results[searches[row].index] += searches[row].finished
        if not active:
            return [sorted(beams, key=lambda beam: -beam.score) for beams in results]
        searches = active
        cache.select(order)
        scores = torch.tensor(beam_scores, device=logits.device, dtype=scores.dtype)
        logits = next_logits(cache, torch.tensor(token_ids, device=logits.device))


def _advance(
    searches: Sequence[_Search],
    steps: torch.Tensor,
    scores: torch.Tensor,
    n_candidates: int,
    config: BeamConfig,
    stop_ids: Collection[int],
    rules: GenerationRules | None,
    begun: Sequence[TokenHistory],
) -> list[list[BeamCandidate]]:
    """What continues of each search: log-probabilities (B K, V) of next tokens after beams with scores (B, K)."""
    if config.n_beam_groups == 1 or not config.diversity_penalty:
        if rules is not None:
            steps = rules.apply(steps, _histories(begun, searches))
        best = _best(steps, scores, n_candidates)
        return [
            search.advance(candidates, config, stop_ids)
            for search, candidates in zip(searches, best, strict=True)
        ]
    continuing: list[list[BeamCandidate]] = []
    taken: list[int] = []  # by earlier groups of the same prompt
    n_beams = scores.shape[1]
    for row, search in enumerate(searches):
        if row == 0 or searches[row - 1].index != search.index:
            taken = []
        step = steps[row * n_beams : (row + 1) * n_beams].clone()
        for token_id in taken:
            step[:, token_id] -= config.diversity_penalty
        if rules is not None:
            step = rules.apply(step, _histories(begun, [search]))
        [candidates] = _best(step, scores[row : row + 1], n_candidates)
        continuing.append(search.advance(candidates, config, stop_ids))
        taken += [token_id for _, _, token_id in continuing[-1]]
    return continuing


def _histories(begun: Sequence[TokenHistory], searches: Sequence[_Search]) -> list[TokenHistory]:
    """The history of every beam in flight."""
    return [
        replace(begun[search.index], token_ids=[*begun[search.index].token_ids, *beam])
        for search in searches
        for beam in search.unfinished
    ]


def _best(steps: torch.Tensor, scores: torch.Tensor, n_candidates: int) -> list[list[BeamCandidate]]:
    """Each prompt's best (score, beam, token), best first: log-probabilities (B K, V) after beams with scores (B, K)."""
    vocab_size = steps.shape[-1]
    totals = (steps.view(*scores.shape, vocab_size) + scores[..., None]).flatten(1)  # (B, K V)
    best = totals.topk(min(n_candidates, totals.shape[1]), dim=-1)
    return [
        [(score, index // vocab_size, index % vocab_size) for score, index in zip(*row, strict=True)]
        for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
