"""What a measure gets, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.progress import OnProgress
from parakit.evaluation.results import BenchmarkResult
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class MeasureInput:
    """One model and how it is to be measured."""

    model: Any  # each measure checks the kind of model
    tokenizer: Tokenizer
    folder: Path
    """The model's."""
    data: Path | None
    """A folder of public data, laid out as docs/evaluation.md says."""
    chat: bool
    """Whether prompts go through the chat template."""
    n_items: int | None = None
    """At most so many items, drawn by `seed`; None: all."""
    seed: int = 0
    n_samples: int = 1
    """Completions of each item, for measures of generated code; with more than one they are sampled."""
    system_prompt: str | None = None
    """Before every prompt that the model answers: a message of the chat template, or a paragraph of plain text."""
    advance: OnProgress | None = None


@dataclass(frozen=True)
class Measure:
    """A named measure; `description` is one line for the list of tasks."""

    description: str
    run: Callable[[MeasureInput], BenchmarkResult]
    needs_data: bool = False
