"""The primer's suites: held-out questions, answered greedily in batches and graded by the primer, with Wilson's intervals.

Questions have the form that the model was tuned with: the chat template, or plain text that ends at a line break. The
result records the form, because a model does worse in the other one. All answers are kept, for comparisons item by item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.evaluation.intervals import wilson_interval
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import Prompt, generate_batch
from parakit.model.heads import LanguageModel
from parakit.primer import SuiteItem, is_correct, plain_prompt
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Prompting = Literal["chat", "plain"]


@dataclass(frozen=True)
class SuiteAnswer:
    """One question with the model's completion."""

    question: str
    answer: str
    """A correct answer."""
    completion: str
    correct: bool
    finish_reason: str


@dataclass(frozen=True)
class SuiteResult:
    """The share of a suite's questions answered correctly, and its 95 % interval."""

    accuracy: float
    low: float
    high: float
    n: int
    prompting: Prompting
    samples: tuple[SuiteAnswer, ...]


def run_suites(
    model: LanguageModel,
    tokenizer: Tokenizer,
    suites: Mapping[str, Sequence[SuiteItem]],
    *,
    chat: bool,
    max_new_tokens: int = 120,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    advance: OnProgress | None = None,
) -> dict[str, SuiteResult]:
    """Generate and grade answers to all suites. `chat`: with the chat template, else as plain text.

    `advance` is called with the number of questions answered. `UserError` names the suite of a question that exceeds the
    context window.
    """
    config = SamplingConfig(temperature=0.0, max_new_tokens=max_new_tokens, stop=() if chat else ("\n",))
    results = {}
    for name, items in suites.items():
        prompts: list[Prompt] = [item.messages if chat else plain_prompt(item) for item in items]
        try:
            completions = generate_batch(model, tokenizer, prompts, config, micro_batch_size=micro_batch_size)
        except UserError as error:
            raise UserError(f"suite {name}: {error.message}", error.hint) from None
        samples = tuple(
            SuiteAnswer(
                question=item.messages[-1].content,
                answer=item.answer,
                completion=completion.text.strip(),
                correct=is_correct(item, completion.text),
                finish_reason=completion.finish_reason,
            )
            for item, completion in zip(items, completions, strict=True)
        )
        results[name] = summarize_answers(samples, "chat" if chat else "plain")
        if advance is not None:
            advance(len(items))
    return results


def summarize_answers(samples: tuple[SuiteAnswer, ...], prompting: Prompting) -> SuiteResult:
    """Accuracy and interval of graded answers."""
    n, n_correct = len(samples), sum(sample.correct for sample in samples)
    low, high = wilson_interval(n_correct, n)
    return SuiteResult(n_correct / n if n else 0.0, low, high, n, prompting, samples)
