"""How fast the engine writes tokens on this machine, one sequence and many, and how fast it scores completions.

Part of the calibration (`measuring.py`).
"""

from __future__ import annotations

from typing import Any

import torch

from parakit.inference.config import SamplingConfig
from parakit.inference.engine.scoring import score_continuations
from parakit.inference.generation.decoding import generate_choices
from parakit.model.heads import LanguageModel
from parakit.planning.operations import matrix_flops, score_flops
from parakit.planning.step_time import decode_bytes
from parakit.stages.planning.timing import default_config, typical_seconds

PROMPT_TOKENS = 256  # of the prompt whose reading is timed
N_NEW, N_SEQUENCES = 24, 16
DECODERS = ((64, 3), (256, 4), (512, 6), (1024, 6))  # width and layers
# Of those that decode and score several sequences at once: width, layers, vocabulary. Two differ in each.
SEVERAL = ((64, 3, 512), (64, 3, 4096), (256, 4, 4096))
PROMPT_WIDTH = 256  # of the model whose reading of prompts is timed
N_SCORED = 32  # tokens of each scored completion, and of their prompt


def engine_speeds(seconds: float) -> dict[str, Any]:
    """Of the engine: prompts, and one sequence of models whose weights are in the processor's caches and of larger ones."""
    points = []
    for width, n_layers in DECODERS:
        config = default_config(width, n_layers, 1024)
        model = LanguageModel(config).eval()
        n_bytes = decode_bytes(config, 8 + N_NEW // 2, 1, 32)
        points.append((n_bytes, n_bytes / _decoding_seconds(model, 1, seconds, temperature=0.0)))
        if width == PROMPT_WIDTH:
            read = _generation_seconds(model, 1, PROMPT_TOKENS, 1, seconds)
            prefill = PROMPT_TOKENS * (matrix_flops(config) + score_flops(config, PROMPT_TOKENS)) / read
    return {"prefill_flops": prefill, "decoding": tuple(points)} | _rollout_speeds(seconds)


def _rollout_speeds(seconds: float) -> dict[str, float]:
    """Of the engine with several sequences, which share the reading of weights, and whose tokens are drawn and scored one
    by one: what a token takes for its operations, for each logit, and in any case, solved from three models.
    """
    drawn, scored, flops, starts = [], [], [], []
    for width, n_layers, vocab_size in SEVERAL:
        config = default_config(width, n_layers, vocab_size)
        model = LanguageModel(config).eval()
        one, many = (_decoding_seconds(model, n, seconds / 2) for n in (1, N_SEQUENCES))
        drawn.append((many - one) / (N_SEQUENCES - 1))
        scored.append(_scoring_seconds(model, seconds / 2) / (N_SEQUENCES * N_SCORED))
        flops.append(2.0 * config.n_matmul_params())
        starts.append(_generation_seconds(model, N_SEQUENCES, 8, 1, seconds / 2))
    vocabularies = [vocab_size for _, _, vocab_size in SEVERAL]
    rate, draw_seconds, sequence_seconds = _solved(drawn, flops, vocabularies)
    # a prompt passes the network once for all completions, and has no logits
    scoring = [each * (1 + 1 / N_SEQUENCES) for each in flops]
    scoring_flops, logit_seconds, token_seconds = _solved(scored, scoring, vocabularies)
    return {
        "decode_flops": rate, "draw_seconds": draw_seconds, "sequence_seconds": sequence_seconds,
        "scoring_flops": scoring_flops, "scored_logit_seconds": logit_seconds, "scored_token_seconds": token_seconds,
        "rollout_seconds": starts[0],
    }  # fmt: skip


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


def _decoding_seconds(
    model: LanguageModel, n_sequences: int, seconds: float, temperature: float = 1.0
) -> float:
    """Of one step that writes a token in each sequence."""
    one, many = (
        _generation_seconds(model, n_sequences, 8, n_new, seconds, temperature) for n_new in (1, N_NEW + 1)
    )
    return max(1e-9, many - one) / N_NEW


def _generation_seconds(
    model: LanguageModel,
    n_sequences: int,
    n_prompt: int,
    n_new: int,
    seconds: float,
    temperature: float = 1.0,
) -> float:
    prompts = torch.randint(model.config.vocab_size, (n_sequences, n_prompt)).tolist()
    # rollouts keep the log-probability of every token
    logged = 0 if temperature else None
    sampling = SamplingConfig(temperature=temperature, max_new_tokens=n_new, log_probabilities=logged)
    seeds = list(range(n_sequences))
    return typical_seconds(
        lambda: generate_choices(model, prompts, sampling, frozenset(), seeds=seeds), seconds
    )
