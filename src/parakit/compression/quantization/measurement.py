"""What quantization changed: KL divergence to the original and perplexity on the same tokens, speed, suites.

The original is not held next to the quantized model: of every measured token its last hidden vector is, and one copy of the
output matrix, from which its probabilities follow exactly.

Shapes: N windows, T tokens, B rows of a batch, D width, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from parakit.common.files import JsonObject
from parakit.compression.quantization.block_inputs import TOKENS_PER_BATCH
from parakit.evaluation.suites import run_suites
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.speed import measure_speed
from parakit.model.heads import LanguageModel
from parakit.model.quantized.layers import round_tokens
from parakit.primer import generate_suites
from parakit.primer.config import PrimerSuitesConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer

TOKENS_PER_HEAD = 512  # logits of both models are (tokens, V), the widest tensors
N_SPEED_TOKENS, N_SPEED_PROMPT, SPEED_REPEATS = 32, 32, 3
MAX_SUITE_LOSS = 0.01
"""What a suite may lose: one point."""


@dataclass(frozen=True)
class Divergence:
    """Of two models on the same text: `kl` = mean KL(original || other) in nats a token; losses in nats a token."""

    kl: float
    loss: float
    original_loss: float
    top_token_equal: float
    """Share of positions where both find the same token likeliest."""
    n_tokens: int

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity of the other model over that of the original."""
        return math.exp(self.loss - self.original_loss)

    def figures(self) -> JsonObject:
        """All of it as plain data, with the perplexities."""
        perplexities = {
            "perplexity": math.exp(self.loss),
            "original_perplexity": math.exp(self.original_loss),
            "perplexity_ratio": self.perplexity_ratio,
        }
        return asdict(self) | perplexities


class OriginalOutputs:
    """What `model` predicts on `windows` (N, T) now; `model` may then be changed."""

    @torch.inference_mode()
    def __init__(self, model: LanguageModel, windows: Tensor) -> None:
        self.windows = windows
        self.head = copy.deepcopy(model.lm_head)
        self.inputs = [model.head_input(model.hidden(rows)) for rows in _batches(windows)]  # (B, T, D)

    @torch.inference_mode()
    def compare(self, model: LanguageModel, int8_cache: bool = False) -> Divergence:
        """The divergence of `model` from the original, by choice with keys and values rounded to int8. T - 1 tokens of each
        window count in the losses, T in `kl`.
        """

        kl = loss = original_loss = 0.0
        n = n_predicted = n_equal = 0
        for rows, inputs in zip(_batches(self.windows), self.inputs, strict=True):
            cache = Int8Cache(model.config, rows.shape[0], rows.shape[1]) if int8_cache else None
            hidden = model.hidden(rows, cache=cache)
            targets = functional.pad(rows[:, 1:], (0, 1), value=-1).flatten()  # the last token predicts none
            vectors = model.head_input(hidden).flatten(0, 1)
            for first in range(0, len(vectors), TOKENS_PER_HEAD):
                some = slice(first, first + TOKENS_PER_HEAD)
                p = log_probabilities(model, self.head, inputs.flatten(0, 1)[some])
                q = log_probabilities(model, model.lm_head, vectors[some])
                kl += float((p.exp() * (p - q)).sum(dtype=torch.float64))
                n_equal += int((p.argmax(-1) == q.argmax(-1)).sum())
                n += len(p)
                counted = targets[some] >= 0
                chosen = targets[some][counted, None]
                loss -= float(q[counted].gather(1, chosen).sum(dtype=torch.float64))
                original_loss -= float(p[counted].gather(1, chosen).sum(dtype=torch.float64))
                n_predicted += len(chosen)
        return Divergence(kl / n, loss / n_predicted, original_loss / n_predicted, n_equal / n, n)

    def divergence(self, model: LanguageModel, number: int, logits: Tensor) -> Tensor:
        """KL of window `number` in nats a token, where a model computes `logits` (T, V): a scalar with a gradient."""
        q = logits.float().log_softmax(-1)
        batch, row = divmod(number, len(self.inputs[0]))
        with torch.no_grad():
            p = log_probabilities(model, self.head, self.inputs[batch][row].clone())
        return (p.exp() * (p - q)).sum(-1).mean()


def log_probabilities(model: LanguageModel, head: torch.nn.Module, inputs: Tensor) -> Tensor:
    """Of an output matrix for its inputs (n, D): (n, V) float32."""
    logits = head(inputs).float()
    cap = model.logit_soft_cap
    return (logits if cap is None else cap * torch.tanh(logits / cap)).log_softmax(-1)


def decode_speed(model: LanguageModel) -> float:
    """Tokens a second behind a short prompt, one sequence at a time."""
    n_new = min(N_SPEED_TOKENS, model.config.max_seq_len // 2)
    prompt = min(N_SPEED_PROMPT, model.config.max_seq_len - n_new)
    measured = measure_speed(
        model, prompt_lengths=(prompt,), n_new_tokens=n_new, repeats=SPEED_REPEATS, bandwidth=1.0
    )
    return next(measured).decode_tokens_per_second


def suite_scores(
    model: LanguageModel, tokenizer: Tokenizer, suites: PrimerSuitesConfig, chat: bool, max_new_tokens: int
) -> dict[str, float]:
    """The share of each suite's questions answered correctly."""
    items = generate_suites(suites)
    results = run_suites(model, tokenizer, items, chat=chat, max_new_tokens=max_new_tokens)
    return {name: result.accuracy for name, result in results.items()}


def fallen_suites(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """By how much each suite fell that fell by more than `MAX_SUITE_LOSS`; a small rounding error is none."""
    falls = {name: before[name] - after[name] for name in before}
    return {name: fall for name, fall in falls.items() if fall > MAX_SUITE_LOSS + 1e-9}


class Int8Cache(KVCache):
    """Keys and values as an int8 cache gives them back: one scale for each token and head."""

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """As `KVCache.update`, with rounded values."""
        return super().update(layer, round_tokens(key), round_tokens(value))


def _batches(windows: Tensor) -> Iterator[Tensor]:
    yield from windows.split(max(1, TOKENS_PER_BATCH // windows.shape[1]))
