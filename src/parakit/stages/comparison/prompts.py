"""Prompts of the validation data, which a model answers before and after it is tuned, and its greedy answers to them.

The prompt of a conversation is what comes before the assistant's first turn that counts, of a ranking what its
completions answer, of a text its first words, of a translation the source. All but the last are ids as training reads
them, so that no template is rendered again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids
from parakit.inference.generation.published_rules import generation_rules
from parakit.inference.generation.seq_to_seq import translate
from parakit.model.heads import LanguageModel, SequenceToSequence, TransformerModel
from parakit.tokens.chat.template import response_text, stop_ids
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.preferences.encoding import EncodedRankings
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_PROMPT_TOKENS = 256  # longer ones are passed over: reading them costs more than answering
OPENING_TOKENS = 16  # of a text that is continued
_TURN_NAMES = ("user", "human", "assistant", "model")  # as templates write them in front of a turn

Validation = TokenShards | ExampleShards | EncodedRankings


@dataclass(frozen=True)
class HeldOutPrompt:
    """`text` is what people read. `is_chat`: an answer, not a continuation."""

    text: str
    token_ids: tuple[int, ...]
    is_chat: bool


def held_out_prompts(
    validation: Validation, tokenizer: Tokenizer, n: int, max_prompt: int
) -> list[HeldOutPrompt]:
    """The first `n` different prompts of at most `max_prompt` tokens; none where the data has no such thing."""
    found: dict[tuple[int, ...], HeldOutPrompt] = {}
    for prompt in _prompts(validation, tokenizer):
        if 0 < len(prompt.token_ids) <= min(max_prompt, MAX_PROMPT_TOKENS):
            found.setdefault(prompt.token_ids, prompt)
        if len(found) == n:
            break
    return list(found.values())


def answer_prompts(
    model: TransformerModel, tokenizer: Tokenizer, prompts: Sequence[HeldOutPrompt], max_new_tokens: int
) -> list[str]:
    """The model's greedy answers."""
    config = SamplingConfig(temperature=0.0, max_new_tokens=max_new_tokens)
    if isinstance(model, SequenceToSequence):
        return translate(model, tokenizer, [prompt.text for prompt in prompts], config, too_long="truncate")
    assert isinstance(model, LanguageModel)
    ids = [prompt.token_ids for prompt in prompts]
    ends, rules = frozenset(stop_ids(tokenizer)), generation_rules(model, tokenizer)
    completions = generate_ids(model, ids, config, ends, rules=rules)
    return [
        response_text(tokenizer, completion) if prompt.is_chat else tokenizer.decode(completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def shown_prompt(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    """The last message of a compiled conversation: the text between its last two control tokens that is more than the
    name of a turn.
    """
    spans: list[list[int]] = [[]]
    for token_id in token_ids:
        if token_id in tokenizer.control_ids:
            spans.append([])
        else:
            spans[-1].append(int(token_id))
    for span in reversed(spans):
        text = tokenizer.decode(span).strip()
        if text and text not in _TURN_NAMES:
            name, _, rest = text.partition("\n")
            return rest.strip() if name in _TURN_NAMES and rest else text
    return tokenizer.decode(token_ids).strip()


def _prompts(validation: Validation, tokenizer: Tokenizer) -> Iterator[HeldOutPrompt]:
    if isinstance(validation, ExampleShards):
        sources = validation.texts.get("source")
        for example in range(len(sources) if sources else 0):
            assert sources is not None
            ids = sources[example].tolist()
            yield HeldOutPrompt(tokenizer.decode(ids), tuple(ids), is_chat=True)
    elif isinstance(validation, EncodedRankings):
        for completion in validation.first[:-1].tolist():
            ids = validation.sequence(completion)[: validation.prompt_lengths[completion]].tolist()
            yield HeldOutPrompt(shown_prompt(tokenizer, ids), tuple(ids), is_chat=True)
    else:
        yield from _of_shards(validation, tokenizer)


def _of_shards(shards: TokenShards, tokenizer: Tokenizer) -> Iterator[HeldOutPrompt]:
    if shards.family != "decoder":
        return
    for start, end in zip(shards.offsets[:-1].tolist(), shards.offsets[1:].tolist(), strict=True):
        if shards.loss_mask is None:
            ids = shards.token_ids[start : min(start + OPENING_TOKENS, end - 1)].tolist()
            yield HeldOutPrompt(tokenizer.decode(ids), tuple(ids), is_chat=False)
        elif len(counted := np.flatnonzero(shards.loss_mask[start:end])):
            ids = shards.token_ids[start : start + int(counted[0])].tolist()
            yield HeldOutPrompt(shown_prompt(tokenizer, ids), tuple(ids), is_chat=True)
