"""Samples of a model's output for reports; seeded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from parakit.data.conversations.conversation import Message
from parakit.data.documents import Document
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

N_OPENINGS, OPENING_CHARS = 4, 60
SAMPLED = SamplingConfig(temperature=0.7, top_p=0.95, max_new_tokens=80, seed=0)
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=80)

Samples = list[dict[str, str]]


def continuations(model: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[str]) -> Samples:
    """The model's continuation of each prompt, sampled at temperature 0.7."""
    return [{"prompt": p, "completion": generate(model, tokenizer, p, SAMPLED).text} for p in prompts]


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
