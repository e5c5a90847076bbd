"""What computes the harness's requests: the engine for decoders, batches of sources and targets for encoder-decoders.

Shapes: B pairs, T target tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from parakit.inference.batching import evaluation_mode, pad_rows, require_finite, rows_by_length
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import Engine, EngineConfig, Request
from parakit.inference.engine.scoring import score_continuations
from parakit.inference.generation.published_rules import generation_rules
from parakit.inference.generation.seq_to_seq import generate_sequences, target_stop_ids
from parakit.model.heads import LanguageModel, SequenceToSequence
from parakit.model.precision import at_least_float32
from parakit.tokens.tokenizer.tokenizer import Tokenizer

TokenPair = tuple[list[int], list[int]]
"""The ids of a context (an encoder-decoder's source), and of what follows it."""
ContinuationLikelihood = tuple[float, bool]
"""Of a continuation: its log-likelihood in nats, and whether greedy decoding gives it."""
MAX_TARGET_LOGITS = 2**25  # of a pass
MAX_SOURCE_TOKENS = 2**14


class Backend(Protocol):
    """A model that gives continuations a probability and generates some."""

    has_source: bool
    """Whether the context goes into an encoder."""
    max_seq_len: int

    def score(self, pairs: Sequence[TokenPair]) -> list[ContinuationLikelihood]:
        """The score of each pair."""
        ...

    def generate(self, prompts: Sequence[tuple[list[int], Mapping[str, Any]]]) -> list[str]:
        """The text after each prompt, under these fields of `SamplingConfig`."""
        ...


def make_backend(model: Any, tokenizer: Tokenizer) -> Backend:
    """The backend for a loaded model; `UserError` for one that gives text no probability."""
    if isinstance(model, SequenceToSequence):
        return _EncoderDecoderBackend(model, tokenizer)
    require_capability(model, "log_likelihood")
    return _DecoderBackend(model, tokenizer)


class _DecoderBackend:
    has_source = False

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.max_seq_len = model.config.max_seq_len

    def score(self, pairs: Sequence[TokenPair]) -> list[ContinuationLikelihood]:
        found = score_continuations(self.model, pairs)
        return [(sum(one.log_probs), one.is_greedy) for one in found]

    def generate(self, prompts: Sequence[tuple[list[int], Mapping[str, Any]]]) -> list[str]:
        config = EngineConfig(max_queue=max(1, len(prompts)))
        engine = Engine(self.model, self.tokenizer, config)
        handles = [
            engine.submit(Request(token_ids=ids, sampling=SamplingConfig.parse(settings)))
            for ids, settings in prompts
        ]
        with evaluation_mode(self.model):
            engine.run()
        for handle in handles:
            if handle.error is not None:
                raise handle.error
        return [handle.completions[0].text for handle in handles]


class _EncoderDecoderBackend:
    has_source = True

    def __init__(self, model: SequenceToSequence, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.max_seq_len = min(model.config.encoder.max_seq_len, model.config.decoder.max_seq_len)

    @torch.inference_mode()
    def score(self, pairs: Sequence[TokenPair]) -> list[ContinuationLikelihood]:
        scores: list[ContinuationLikelihood] = [(0.0, True)] * len(pairs)
        device = next(self.model.parameters()).device
        longest = max((len(source) for source, _ in pairs), default=1)
        n_logits = max((len(target) for _, target in pairs), default=1) * self.model.config.decoder.vocab_size
        n_rows = max(1, min(64, MAX_TARGET_LOGITS // n_logits, MAX_SOURCE_TOKENS // max(1, longest)))
        with evaluation_mode(self.model):
            for rows in rows_by_length([source for source, _ in pairs], n_rows):
                sources, mask = pad_rows([pairs[row][0] for row in rows], device)
                targets = [pairs[row][1] for row in rows]
                start = self.model.config.decoder_start_id
                inputs, _ = pad_rows([[start, *target[:-1]] for target in targets], device)
                logits = at_least_float32(self.model(sources, inputs, source_mask=mask))  # (B, T, V)
                for row, target, own in zip(rows, targets, logits, strict=True):
                    scores[row] = _score(require_finite(own[: len(target)], "logits"), target)
        return scores

    def generate(self, prompts: Sequence[tuple[list[int], Mapping[str, Any]]]) -> list[str]:
        rules = generation_rules(self.model, self.tokenizer)
        texts = [""] * len(prompts)
        kinds: dict[str, list[int]] = {}
        for i, (_, settings) in enumerate(prompts):
            kinds.setdefault(repr(settings), []).append(i)
        for members in kinds.values():
            settings = dict(prompts[members[0]][1])
            stop = settings.pop("stop")
            found = generate_sequences(
                self.model,
                [prompts[i][0] for i in members],
                SamplingConfig.parse(settings),
                target_stop_ids(self.tokenizer),
                rules=rules,
            )
            for i, ids in zip(members, found, strict=True):
                texts[i] = _until(self.tokenizer.decode(ids, skip_special=True), stop)
        return texts


def _score(logits: torch.Tensor, target: Sequence[int]) -> ContinuationLikelihood:
    """logits (T, V) after the tokens before each of `target`."""
    ids = torch.tensor(target, device=logits.device)
    log_probs = logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(-1)
    return float(log_probs.double().sum()), bool((logits.argmax(-1) == ids).all())


def _until(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    ends = [text.index(one) for one in stop if one in text]
    return text[: min(ends)] if ends else text
