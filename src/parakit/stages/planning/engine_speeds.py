"""How fast the engine writes tokens on this machine, one sequence and many, and how fast it scores completions.

Part of the calibration (`measuring.py`).
"""

from __future__ import annotations

from typing import Any

import torch

from parakit.inference.config import SamplingConfig
from parakit.inference.engine.scoring import score_continuations
from parakit.inference.generation.decoding import generate_choices
from parakit.inference.generation.steps.model_steps import allocate_cache, make_decode_step, prefill
from parakit.model.heads import LanguageModel
from parakit.planning.operations import inference_flops, matrix_flops, score_flops
from parakit.planning.step_time import decode_bytes
from parakit.stages.planning.timing import default_config, typical_seconds

PROMPT_TOKENS = 256  # of the prompt whose reading is timed
N_NEW, N_SEQUENCES = 24, 16
DECODERS = ((64, 3), (256, 4), (512, 6), (1024, 6))  # width and layers
WIDEST_OF_MANY = 512  # of those that decode several sequences at once
DRAWERS = ((64, 1, 64), (64, 1, 4096))  # width, layers and vocabulary of models whose tokens are drawn
# Of those that score several sequences at once: width, layers, vocabulary. Two differ in each.
SEVERAL = ((64, 3, 512), (64, 3, 4096), (256, 4, 4096))
PROMPT_WIDTH = 256  # of the model whose reading of prompts is timed
N_SCORED = 32  # tokens of each scored completion, and of their prompt


def engine_speeds(seconds: float) -> dict[str, Any]:
    """Of decoding: prompts, and one and several sequences of models whose weights are in the processor's caches and of larger
    ones; and of the engine, which draws and scores tokens.
    """
    points, many = [], []
    for width, n_layers in DECODERS:
        config = default_config(width, n_layers, 1024)
        model = LanguageModel(config).eval()
        n_bytes, one = decode_bytes(config, 8 + N_NEW // 2, 1, 32), _step_seconds(model, 1, seconds)
        points.append((n_bytes, n_bytes / one))
        if width <= WIDEST_OF_MANY:
            more = max(1e-9, _step_seconds(model, N_SEQUENCES, seconds / 2) - one)
            many.append((width, (N_SEQUENCES - 1) * inference_flops(config, 8 + N_NEW // 2) / more))
        if width == PROMPT_WIDTH:
            read = _generation_seconds(model, 1, PROMPT_TOKENS, 1, seconds)
            prefill = PROMPT_TOKENS * (matrix_flops(config) + score_flops(config, PROMPT_TOKENS)) / read
    speeds = {"prefill_flops": prefill, "decoding": tuple(points), "decode_flops": tuple(many)}
    return speeds | _drawing_speeds(seconds) | _scoring_speeds(seconds)


def _drawing_speeds(seconds: float) -> dict[str, float]:
    """What the engine takes for a token of one of several sequences besides the model's step: for each logit, and in any
    case, from two vocabularies.
    """
    drawn = []
    for width, n_layers, vocab_size in DRAWERS:
        model = LanguageModel(default_config(width, n_layers, vocab_size)).eval()
        first, all_steps = (
            _generation_seconds(model, N_SEQUENCES, 8, n_new, seconds / 2) for n_new in (1, N_NEW + 1)
        )
        whole = (all_steps - first) / N_NEW
        drawn.append(max(1e-9, whole - _step_seconds(model, N_SEQUENCES, seconds / 2)) / N_SEQUENCES)
    (*_, few), (*_, most) = DRAWERS
    each = max(0.0, (drawn[1] - drawn[0]) / (most - few))
    return {
        "draw_seconds": each,
        "sequence_seconds": max(0.0, drawn[0] - few * each),
        "rollout_seconds": first,
    }


def _scoring_speeds(seconds: float) -> dict[str, float]:
    """Of the engine that scores several sequences, which share the reading of weights: what a token takes for its
    operations, for each logit, and in any case, solved from three models.
    """
    scored, flops = [], []
    for width, n_layers, vocab_size in SEVERAL:
        config = default_config(width, n_layers, vocab_size)
        model = LanguageModel(config).eval()
        scored.append(_scoring_seconds(model, seconds / 2) / (N_SEQUENCES * N_SCORED))
        # a prompt passes the network once for all completions, and has no logits
        flops.append(2.0 * config.n_matmul_params() * (1 + 1 / N_SEQUENCES))
    rate, logit_seconds, token_seconds = _solved(scored, flops, [each for _, _, each in SEVERAL])
    return {
        "scoring_flops": rate,
        "scored_logit_seconds": logit_seconds,
        "scored_token_seconds": token_seconds,
    }


def _solved(seconds: list[float], flops: list[float], vocabularies: list[int]) -> tuple[float, float, float]:
    """FLOP/s, seconds of a logit and seconds of a token from three models, of which the first two differ in their
    vocabulary and the last two in their width.
    """
    rate = (flops[2] - flops[1]) / max(1e-9, seconds[2] - seconds[1])
    of_logits = seconds[1] - seconds[0] - (flops[1] - flops[0]) / rate
    each = max(0.0, of_logits / (vocabularies[1] - vocabularies[0]))
    return rate, each, max(0.0, seconds[0] - flops[0] / rate - vocabularies[0] * each)


def _scoring_seconds(model: LanguageModel, seconds: float) -> float:
    """Of the log-probabilities of several completions of one prompt."""
    ids = torch.randint(model.config.vocab_size, (N_SEQUENCES + 1, N_SCORED)).tolist()
    pairs = [(ids[0], completion) for completion in ids[1:]]
    return typical_seconds(lambda: score_continuations(model, pairs), seconds)


def _step_seconds(model: LanguageModel, n_sequences: int, seconds: float) -> float:
    """Of one step of a model that writes a token in each sequence, without what chooses it: of `N_NEW` steps in a row."""
    prompts = torch.randint(model.config.vocab_size, (n_sequences, 8)).tolist()
    tokens = torch.randint(model.config.vocab_size, (N_NEW, n_sequences))
    step = make_decode_step(model)
    cache = allocate_cache(model, prompts, N_NEW)
    prefill(model, cache, prompts)

    def work() -> None:
        cache.truncate([len(prompt) for prompt in prompts])
        for token_ids in tokens:
            step(cache, token_ids)

    return typical_seconds(work, seconds) / N_NEW


def _generation_seconds(
    model: LanguageModel, n_sequences: int, n_prompt: int, n_new: int, seconds: float
) -> float:
    """Of drawing tokens in the engine, with their log-probabilities, as rollouts are."""
    prompts = torch.randint(model.config.vocab_size, (n_sequences, n_prompt)).tolist()
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=n_new, log_probabilities=0)
    seeds = list(range(n_sequences))
    return typical_seconds(
        lambda: generate_choices(model, prompts, sampling, frozenset(), seeds=seeds), seconds
    )
