"""What a run changes: the model is measured before the first step, and after the last in the same way.

Three figures: the loss on held-out data (it helped), the loss on a small general text (what it forgot), and greedy answers
to prompts of the held-out data. The figures of before are kept in the run directory, so that a resumed run has them
although its model has changed. Nothing is drawn at random, and torch's generators are left as they were.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from parakit.common.choices import part_of
from parakit.common.files import JsonObject, read_checked_json, write_checked_json
from parakit.common.progress import log
from parakit.evaluation.general_text import general_loss, general_texts
from parakit.model.adapters import Adapter, without_adapter
from parakit.model.heads import LanguageModel, SequenceToSequence, TransformerModel
from parakit.stages.comparison.prompts import HeldOutPrompt, Validation, answer_prompts, held_out_prompts
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import BeforeAfter, ComparedAnswers, TrainingConfig

BEFORE = "before.json"
MAX_SECONDS = 20.0  # of the general text, and of the answers, on each side of the run
SLOW_PARAMETERS = 50_000_000  # from here on it is announced
LARGE_PARAMETERS = 300_000_000  # from here on the first of the general texts is timed
MIN_NEW_TOKENS = 16  # answers are made shorter down to here before prompts are left out
DECODING_COST = 3.0  # of a generated token relative to one that is read
Validate = Callable[[TransformerModel], JsonObject]


@dataclass(frozen=True)
class Comparison:
    """What is measured of a run. `validates`: its validation loss before the first step."""

    speaks: bool
    validates: bool
    prompts: tuple[HeldOutPrompt, ...] = ()
    max_new_tokens: int = 0
    skipped: tuple[str, ...] = ()
    """What is not measured, and why."""


def plan_comparison(
    training: TrainingConfig,
    model: TransformerModel,
    tokenizer: Tokenizer,
    prompts: Validation | Sequence[HeldOutPrompt],
    *,
    validates: bool = True,
    needs_validation: bool = False,
) -> Comparison:
    """The comparison that the settings ask for. `prompts`: they, or the validation data that they are taken from.
    `needs_validation`: the method reports the validation before the first step in any case.
    """
    settings, answers = part_of(training, BeforeAfter), part_of(training, ComparedAnswers)
    if settings is None or settings.before_after == "none":
        return Comparison(speaks=False, validates=needs_validation)
    if not isinstance(model, LanguageModel | SequenceToSequence):
        why = f"a {type(model).__name__} continues no text: no general text and no answers"
        return Comparison(speaks=False, validates=validates, skipped=(why,))
    chosen: Sequence[HeldOutPrompt] = ()
    skipped = [] if isinstance(model, LanguageModel) else ["an encoder-decoder has no loss on a general text"]
    max_new_tokens = 0
    if answers:
        n, window = answers.n_compared_prompts, model.config.max_seq_len
        max_new_tokens = min(answers.max_compared_tokens, window // 2)
        chosen = (
            prompts[:n]
            if isinstance(prompts, Sequence)
            else held_out_prompts(prompts, tokenizer, n, window - max_new_tokens)
        )
        if not chosen:
            skipped.append("the held-out data has no prompt that is short enough to answer")
    return Comparison(
        isinstance(model, LanguageModel), validates, tuple(chosen), max_new_tokens, tuple(skipped)
    )


def comparison_settings(training: TrainingConfig) -> JsonObject:
    """The settings of the comparison that were given, for a run that is a step of another."""
    names = {*BeforeAfter.model_fields, *ComparedAnswers.model_fields} & training.model_fields_set
    return {name: getattr(training, name) for name in names}


def measure_before(
    comparison: Comparison,
    model: TransformerModel,
    tokenizer: Tokenizer,
    validate: Validate,
    adapter: Adapter | None,
    run_dir: Path,
) -> JsonObject:
    """The figures of the model as it was: without the adapter that is about to be trained. Those of an interrupted run
    are read from its directory.
    """
    path = run_dir / BEFORE
    if path.is_file():
        before: JsonObject = read_checked_json(path, "delete it: the model is measured again")
        return before
    if not (comparison.speaks or comparison.validates or comparison.prompts):
        return {}
    started = time.monotonic()
    if sum(p.numel() for p in model.parameters()) >= SLOW_PARAMETERS:
        log("measuring the model before the first step")
    before = {"skipped": list(comparison.skipped)}
    without = without_adapter(model) if adapter else contextlib.nullcontext()
    with without, _generators_kept(model):
        if comparison.validates:
            before["validation"] = validate(model)
        before["validation_seconds"] = time.monotonic() - started
        seconds = None
        if comparison.speaks:
            assert isinstance(model, LanguageModel)
            general, seconds = _general_in_time(model, tokenizer)
            before["general"] = general
        n, n_new = _answers_in_time(comparison, before["skipped"], seconds)
        if n:
            before["answers"] = answer_prompts(model, tokenizer, comparison.prompts[:n], n_new)
            before["max_new_tokens"] = n_new
    before["seconds"] = time.monotonic() - started
    if before["seconds"] > 1:
        log(f"measured before the first step in {before['seconds']:.1f}s")
    write_checked_json(path, before)
    return before


def measure_after(
    comparison: Comparison,
    before: Mapping[str, Any],
    model: TransformerModel,
    tokenizer: Tokenizer,
    figures: Mapping[str, Any],
) -> JsonObject:
    """The figures of both sides, as the summary's `before_after`; empty where nothing was measured before. `figures` are
    those of the last validation.
    """
    if not before:
        return {}
    started, result = time.monotonic(), JsonObject(skipped=before["skipped"])
    if "validation" in before:
        result |= {"loss_before": before["validation"]["loss"], "loss_after": figures["loss"]}
    with _generators_kept(model):
        if general := before.get("general"):
            assert isinstance(model, LanguageModel)
            loss = general_loss(model, tokenizer, general["n_texts"]).loss_nats_per_token
            result |= {"general_before": general["loss"], "general_after": loss}
            result |= {"forgotten": loss - general["loss"], "general_tokens": general["n_tokens"]}
        if written := before.get("answers"):
            prompts = comparison.prompts[: len(written)]
            now = answer_prompts(model, tokenizer, prompts, before["max_new_tokens"])
            result["answers"] = [
                {"prompt": prompt.text, "before": old, "after": new}
                for prompt, old, new in zip(prompts, written, now, strict=True)
            ]
    result["seconds"] = before["seconds"] + time.monotonic() - started
    return {"before_after": result}


def _general_in_time(model: LanguageModel, tokenizer: Tokenizer) -> tuple[JsonObject, float]:
    """The loss on as many of the general texts as fit into `MAX_SECONDS`, at least one; the seconds of a token."""
    n = len(general_texts())
    if sum(p.numel() for p in model.parameters()) >= LARGE_PARAMETERS:
        started = time.monotonic()
        general_loss(model, tokenizer, 1)
        n = max(1, min(n, int(MAX_SECONDS / (time.monotonic() - started))))
    started = time.monotonic()
    found = general_loss(model, tokenizer, n)
    seconds = time.monotonic() - started
    general = {"loss": found.loss_nats_per_token, "n_tokens": found.n_tokens, "n_texts": n}
    return general, seconds / found.n_tokens


def _answers_in_time(comparison: Comparison, skipped: list[str], seconds: float | None) -> tuple[int, int]:
    """How many prompts are answered in how many tokens at most, if reading a token takes `seconds`."""
    n, n_new = len(comparison.prompts), comparison.max_new_tokens
    if not n or seconds is None:
        return n, n_new
    n_read = sum(len(prompt.token_ids) for prompt in comparison.prompts) / n
    fitting = (MAX_SECONDS / (n * seconds) - n_read) / DECODING_COST
    n_new = max(min(n_new, MIN_NEW_TOKENS), min(n_new, int(fitting)))
    n_answered = min(n, int(MAX_SECONDS / (seconds * (n_read + DECODING_COST * n_new))))
    if n_answered < n:
        skipped.append(
            f"{n - n_answered} of {n} prompts are not answered: they would take more than {MAX_SECONDS:.0f}s"
        )
    return n_answered, n_new


@contextlib.contextmanager
def _generators_kept(model: TransformerModel) -> Iterator[None]:
    """Torch's random generators are afterwards as before."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
