"""Beam search: the likeliest completions that a search of bounded width finds.

The rule is that of transformers' `generate(num_beams=...)`, so both give the same tokens. In every step each of
`n_beams` unfinished completions goes on with every token; of all these the best (1 + number of stop ids) * n_beams
are looked at. One that ends (a stop id, or the limit) counts only if it is among the best n_beams, with the score
log probability / tokens ** length_penalty, its stop id included; of the others the best n_beams go on. A prompt is
done at the limit, or when it has n_beams finished completions and `stop_when` says so. One beam is greedy decoding.
Prompts do not depend on who shares their batch. Left out: sampling, penalties, groups of beams.

Shapes: B prompts, K beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, rows_by_length
from parakit.inference.capabilities import require_capability
from parakit.inference.config import BeamConfig
from parakit.inference.generation.decoding import (
    NextTokenModel,
    allocate_cache,
    check_prompt,
    make_decode_step,
    max_completion,
    prefill,
)

NEVER = -1e9  # the score of a beam that is only there to fill the batch


@dataclass(frozen=True)
class Beam:
    """A completion and its score: its log probability over its length to the power of the penalty."""

    token_ids: list[int]
    score: float


def beam_search(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: BeamConfig,
    stop_ids: Collection[int] = (),
    *,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[list[Beam]]:
    """The `n_beams` best completions of each prompt, best first; ends and errors as for `generate_ids`.

    `micro_batch_size` counts beams in flight. A prompt that fills the context window has one empty completion.
    """
    require_capability(model, "generate")
    for prompt in prompts:
        check_prompt(len(prompt), model.config.max_seq_len)
    found: list[list[Beam]] = [[] for _ in prompts]
    with evaluation_mode(model):
        for rows in rows_by_length(prompts, max(1, micro_batch_size // config.n_beams)):
            beams = beam_search_batch(model, [prompts[row] for row in rows], config, stop_ids)
            for row, best in zip(rows, beams, strict=True):
                found[row] = best
    return found


@dataclass
class _Search:
    """One prompt's search: its limit, its open beams' tokens, its finished completions."""

    place: int
    limit: int
    open: list[list[int]]
    finished: list[Beam] = field(default_factory=list)

    def advance(
        self, candidates: list[tuple[float, int, int]], config: BeamConfig, stop_ids: Collection[int]
    ) -> list[tuple[float, int, int]]:
        """Take the best (score, beam, token) there are, best first; return those that go on, none when done."""
        n_tokens = len(self.open[0]) + 1
        going_on: list[tuple[float, int, int]] = []
        for rank, (score, beam, token_id) in enumerate(candidates):
            if token_id not in stop_ids and n_tokens < self.limit:
                going_on.append((score, beam, token_id))
            elif rank < config.n_beams:
                tokens = [*self.open[beam], token_id]
                self.finished.append(Beam(tokens, score / n_tokens**config.length_penalty))
        self.finished = sorted(self.finished, key=lambda beam: -beam.score)[: config.n_beams]
        if not going_on or self._is_done(going_on[0][0], n_tokens, config):
            return []
        going_on = going_on[: config.n_beams]
        going_on += [(NEVER, *going_on[0][1:])] * (config.n_beams - len(going_on))
        self.open = [[*self.open[beam], token_id] for _, beam, token_id in going_on]
        return going_on

    def _is_done(self, best_open: float, n_tokens: int, config: BeamConfig) -> bool:
        if len(self.finished) < config.n_beams:
            return False
        if config.stop_when == "full":
            return True
        at_its_best = config.stop_when == "impossible" and config.length_penalty > 0
        length = self.limit if at_its_best else n_tokens
        return best_open / length**config.length_penalty <= self.finished[-1].score


@torch.inference_mode()
def beam_search_batch(
    model: NextTokenModel, prompts: Sequence[Sequence[int]], config: BeamConfig, stop_ids: Collection[int]
) -> list[list[Beam]]:
    """`beam_search` for one batch, from prefill to the last finished prompt; checks nothing."""
    limits = [max_completion(len(prompt), config, model.config.max_seq_len) for prompt in prompts]
    searches = [_Search(i, limit, [[]] * config.n_beams) for i, limit in enumerate(limits) if limit > 0]
    found: list[list[Beam]] = [[Beam([], 0.0)] for _ in prompts]
    if not searches:
        return found
    n_beams, prompts = config.n_beams, [prompts[search.place] for search in searches]
    cache, next_logits = allocate_cache(model, prompts, max(limits)), make_decode_step(model, max(limits))
    logits = prefill(model, cache, prompts)  # (B, V)
    copies = [row for row in range(len(prompts)) for _ in range(n_beams)]
    cache.select(copies)
    logits = logits[copies]  # (B K, V)
    scores = torch.full((len(prompts), n_beams), NEVER, device=logits.device)
    scores[:, 0] = 0  # all beams of a prompt are still the same
    while True:
        order, token_ids, kept_scores, staying = [], [], [], []
        for row, (search, candidates) in enumerate(
            zip(searches, _best(logits, scores, n_beams * (1 + max(1, len(stop_ids)))), strict=True)
        ):
            going_on = search.advance(candidates, config, stop_ids)
            found[search.place] = search.finished
            if going_on:
                staying.append(search)
                kept_scores.append([score for score, _, _ in going_on])
                order += [row * n_beams + beam for _, beam, _ in going_on]
                token_ids += [token_id for _, _, token_id in going_on]
        if not staying:
            return found
        searches = staying
        cache.select(order)
        scores = torch.tensor(kept_scores, device=logits.device, dtype=scores.dtype)
        logits = next_logits(cache, torch.tensor(token_ids, device=logits.device))


def _best(
    logits: torch.Tensor, scores: torch.Tensor, n_candidates: int
) -> list[list[tuple[float, int, int]]]:
    """Each prompt's best (score, beam, token), best first: logits (B K, V) after beams with scores (B, K)."""
    vocab_size = logits.shape[-1]
    steps = functional.log_softmax(logits.float(), dim=-1).view(*scores.shape, vocab_size)
    totals = (steps + scores[..., None]).flatten(1)  # (B, K V)
    best = totals.topk(min(n_candidates, totals.shape[1]), dim=-1)
    return [
        [(score, place // vocab_size, place % vocab_size) for score, place in zip(*row, strict=True)]
        for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
