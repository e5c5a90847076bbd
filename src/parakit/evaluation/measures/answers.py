"""A model's answers to the prompts of a measure: as plain text, or as a user's message in the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.evaluation.measures.measure import MeasureInput
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.completion import Prompt, prompt_ids
from parakit.inference.generation.context_window import fit_prompt
from parakit.inference.generation.sampling import request_seeds
from parakit.inference.generation.text import generate_batch

PROMPTS_AT_ONCE = 4 * MICRO_BATCH_SIZE


@dataclass(frozen=True)
class GeneratedAnswers:
    """`texts[i]` are the `n` completions of prompt i; `n_truncated` prompts did not fit in the context window."""

    texts: tuple[tuple[str, ...], ...]
    n_truncated: int

    @property
    def first(self) -> list[str]:
        """One text of each prompt."""
        return [texts[0] for texts in self.texts]


def generate_answers(given: MeasureInput, prompts: Sequence[str], config: SamplingConfig) -> GeneratedAnswers:
    """The completions of each prompt. A text that is too long for the window loses its beginning; a message that is too
    long has the empty answer. Both are counted. `given.advance` is called with numbers of prompts.
    """
    require_capability(given.model, "generate")
    if given.chat and given.tokenizer.chat_template is None:
        raise UserError(
            "the model has no chat template", "measure it with plain prompts, or tune it for chat first"
        )
    config = config.model_copy(update={"when_full": "drop_oldest"})
    seeds = request_seeds(given.seed, len(prompts))
    texts: list[tuple[str, ...]] = []
    n_truncated = 0
    for start in range(0, len(prompts), PROMPTS_AT_ONCE):
        part = prompts[start : start + PROMPTS_AT_ONCE]
        found, n_long = _complete(given, part, config, seeds[start : start + PROMPTS_AT_ONCE])
        texts += found
        n_truncated += n_long
        if given.advance is not None:
            given.advance(len(part))
    return GeneratedAnswers(tuple(texts), n_truncated)


def as_prompt(given: MeasureInput, text: str) -> Prompt:
    """A text in the form in which the model gets it."""
    if not given.chat:
        return f"{given.system_prompt}\n\n{text}" if given.system_prompt else text
    system = [Message("system", given.system_prompt)] if given.system_prompt else []
    return [*system, Message("user", text)]


def _complete(
    given: MeasureInput, prompts: Sequence[str], config: SamplingConfig, seeds: Sequence[int]
) -> tuple[list[tuple[str, ...]], int]:
    """The completions of some prompts, and how many were too long."""
    window, n = given.model.config.max_seq_len, config.n
    fitting: list[Prompt] = []
    places: list[int] = []
    n_long = 0
    for i, text in enumerate(prompts):
        prompt = as_prompt(given, text)
        if len(prompt_ids(given.tokenizer, prompt)) >= window and given.chat:
            n_long += 1
            continue
        n_long += fit_prompt(given.tokenizer, prompt, config, window).n_dropped_tokens > 0
        fitting.append(prompt)
        places.append(i)
    texts = [("",) * n for _ in prompts]
    if fitting:
        chosen = [seeds[place] for place in places]
        flat = [
            one.text for one in generate_batch(given.model, given.tokenizer, fitting, config, seeds=chosen)
        ]
        for place, first in zip(places, range(0, len(flat), n), strict=True):
            texts[place] = tuple(flat[first : first + n])
    return texts, n_long
