"""Samples of a model's output for reports; seeded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from parakit.data.conversations.conversation import Message
from parakit.data.documents import Document
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate
from parakit.inference.prediction.fill_mask import PLACEHOLDER, MaskedPosition, fill_masks
from parakit.model.heads import LanguageModel, MaskedLanguageModel, TransformerModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

N_OPENINGS, OPENING_CHARS = 4, 60
MAX_PROGRESS_TOKENS = 40  # of a completion at a point of a run: it costs as much as its validation
SAMPLED = SamplingConfig(temperature=0.7, top_p=0.95, max_new_tokens=80, seed=0)
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=80)

Samples = list[dict[str, str]]


def continuations(
    model: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[str], max_new_tokens: int | None = None
) -> Samples:
    """The model's continuation of each prompt, sampled at temperature 0.7."""
    config = SAMPLED if max_new_tokens is None else SAMPLED.replace(max_new_tokens=max_new_tokens)
    return [{"prompt": p, "completion": generate(model, tokenizer, p, config).text} for p in prompts]


def text_samples(
    model: TransformerModel, tokenizer: Tokenizer, prompts: Sequence[str], max_new_tokens: int | None = None
) -> Samples:
    """Continuations of prompts, or an encoder's candidates for the masks in them (their last words, where they have none);
    none for models that predict no tokens of a text.
    """
    if isinstance(model, LanguageModel):
        return continuations(model, tokenizer, prompts, max_new_tokens)
    if not isinstance(model, MaskedLanguageModel) or not prompts:
        return []
    masked = [prompt if PLACEHOLDER in prompt else _mask_last_word(prompt) for prompt in prompts]
    filled = fill_masks(model, tokenizer, masked)
    return [
        {"prompt": prompt, "completion": "; ".join(map(_candidates, positions))}
        for prompt, positions in zip(masked, filled, strict=True)
    ]


def _candidates(position: MaskedPosition) -> str:
    return ", ".join(
        f"{candidate.text.strip()} {candidate.probability:.0%}" for candidate in position.candidates
    )


def _mask_last_word(text: str) -> str:
    """A text with its last word masked."""
    words = text.split()
    return " ".join([*words[:-1], PLACEHOLDER])


def answers(model: LanguageModel, tokenizer: Tokenizer, questions: Sequence[str]) -> Samples:
    """A chat model's greedy answer to each question."""
    prompts = [(Message("user", question),) for question in questions]
    completions = [generate(model, tokenizer, prompt, GREEDY).text for prompt in prompts]
    return [{"prompt": q, "completion": text} for q, text in zip(questions, completions, strict=True)]


def openings(documents: Iterable[Document]) -> tuple[str, ...]:
    """The first words of some documents, as prompts."""
    texts = []
    for document in islice(documents, N_OPENINGS):
        text = document.text.strip()[:OPENING_CHARS]
        texts.append(text.rsplit(None, 1)[0] if " " in text else text)
    return tuple(opening for opening in texts if opening)
