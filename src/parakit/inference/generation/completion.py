"""What goes into generation and what comes out: prompts as the model's input ids, and completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.config import DecodingConfig
from parakit.inference.generation.sampling import Choice
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

# A text to continue, or the messages of a conversation to answer.
Prompt = str | Sequence[Message | Mapping[str, str]]
Decoding = TypeVar("Decoding", bound=DecodingConfig)
FinishReason = Literal["stop", "length", "interrupted"]


@dataclass
class SpeculationStatistics:
    """What drafts were worth so far."""

    n_drafted: int = 0
    n_accepted: int = 0
    n_forwards: int = 0
    """Passes of the model after the prompt's."""
    n_tokens: int = 0
    """Tokens that these passes gave."""

    @property
    def accepted_share(self) -> float:
        """Of the drafted tokens; 0 without any."""
        return self.n_accepted / self.n_drafted if self.n_drafted else 0.0

    @property
    def tokens_per_forward(self) -> float:
        """1 is what plain decoding has."""
        return self.n_tokens / self.n_forwards if self.n_forwards else 0.0

    def __str__(self) -> str:
        return (
            f"drafts: {self.accepted_share:.0%} of {self.n_drafted:,} tokens accepted,"
            f" {self.tokens_per_forward:.2f} tokens a pass"
        )


@dataclass(frozen=True)
class Completion:
    """A generated text. `token_ids` holds all new ids, stop ids included; `text` is without stop strings."""

    text: str
    token_ids: tuple[int, ...]
    n_prompt_tokens: int
    finish_reason: FinishReason
    """stop: a stop id or stop string; length: `max_new_tokens` or the context window."""
    seconds: float
    """From the start of prefill to the last token; in a batch, of the whole batch."""
    seconds_to_first_token: float = 0.0
    """From the start of prefill to the first token; 0 in a batch."""
    log_probabilities: tuple[Choice, ...] = ()
    """Of every token, where the request wants them."""
    score: float | None = None
    """Of a beam search: log-probability / tokens ** length_penalty."""
    speculation: SpeculationStatistics | None = None
    """What drafts were worth, where there were some."""
    n_dropped_tokens: int = 0
    """Tokens of the prompt that the context window could not hold, where `when_full` is drop_oldest."""

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def tokens_per_second(self) -> float:
        return self.n_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """Of the tokens after the first, without the time that reading the prompt took; 0 where there are none."""
        seconds = self.seconds - self.seconds_to_first_token
        return (self.n_tokens - 1) / seconds if self.n_tokens > 1 and seconds > 0 else 0.0


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt, tools: Sequence[Any] | None = None) -> list[int]:
    """The model's input: the text's tokens with what the tokenizer adds to a text, or the conversation in its template
    with the assistant's turn opened, and with the `tools` (JSON schemas) that it may call. A text without any tokens becomes
    BOS, or EOS without a BOS.
    """
    if isinstance(prompt, str):
        before, after = text_boundaries(tokenizer)
        return [*before, *tokenizer.encode(prompt), *after] or _first_ids(tokenizer)
    return list(compile_chat(tokenizer, prompt, add_generation_prompt=True, tools=tools).token_ids)


def context_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A plain text as the beginning of a longer one: `prompt_ids` without what the tokenizer puts after a text."""
    return [*text_boundaries(tokenizer)[0], *tokenizer.encode(prompt)] or _first_ids(tokenizer)


def _first_ids(tokenizer: Tokenizer) -> list[int]:
    """What a text begins with of which nothing is known."""
    return [] if tokenizer.start_id is None else [tokenizer.start_id]


def check_prompt(n_prompt_tokens: int, max_seq_len: int, other_way: str = "") -> None:
    """Raise `UserError` for a prompt that is empty or longer than the context window; `other_way` ends the hint."""
    if n_prompt_tokens > max_seq_len:
        ways = ("shorten the prompt", "use a model with a larger max_seq_len", *filter(None, [other_way]))
        raise UserError(
            f"the prompt has {n_prompt_tokens} tokens, and the model's context window holds {max_seq_len}",
            ", ".join(ways) if other_way else ", or ".join(ways),
        )
    if n_prompt_tokens == 0:
        raise UserError("the prompt has no tokens", "give some text to continue")


def check_ids(token_ids: Sequence[int], vocab_size: int) -> None:
    """Raise `UserError` for ids outside the vocabulary."""
    if not all(0 <= token_id < vocab_size for token_id in token_ids):
        raise UserError(
            f"token ids from {min(token_ids)} to {max(token_ids)}, and the vocabulary has {vocab_size}",
            "encode the text with the model's own tokenizer",
        )


def max_completion(n_prompt_tokens: int, config: DecodingConfig, max_seq_len: int) -> int:
    """The longest completion, in tokens: prompt and completion share the context window."""
    return min(config.max_new_tokens, max_seq_len - n_prompt_tokens)


def resolve_logit_bias(config: Decoding, tokenizer: Tokenizer, vocab_size: int) -> Decoding:
    """The settings with ids for the texts of `logit_bias`. `UserError` for a text that is not one token (a special
    token's text is never that token: give its id), and for an id that the vocabulary does not have.
    """
    if not config.logit_bias:
        return config
    biases: dict[int, float] = {}
    for key, bias in config.logit_bias.items():
        ids = [key] if isinstance(key, int) else tokenizer.encode(key)
        if len(ids) != 1:
            raise UserError(
                f"logit_bias: {key!r} is {len(ids)} tokens", "give a text of one token, or token ids"
            )
        if ids[0] >= vocab_size:
            raise UserError(
                f"logit_bias: token id {ids[0]} is not below the vocabulary's size {vocab_size}",
                "parakit tokenizer encode MODEL TEXT lists the ids of a text",
            )
        biases[ids[0]] = biases.get(ids[0], 0.0) + bias
    return config.replace(logit_bias=biases)
