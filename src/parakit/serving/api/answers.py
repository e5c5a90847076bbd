"""Parts of answers that several forms share: usage, log-probabilities, headers."""

from __future__ import annotations

from typing import Any

from parakit.inference.generation.sampling import Alternative, Choice
from parakit.serving.generation.call import Usage
from parakit.serving.generation.generation import Generation
from parakit.tokens.tokenizer.tokenizer import Tokenizer

DROPPED_MESSAGES, DROPPED_TOKENS = "X-Parakit-Dropped-Messages", "X-Parakit-Dropped-Tokens"


def usage_json(usage: Usage, n_reasoning_tokens: int = 0) -> dict[str, Any]:
    """OpenAI's `usage`. `n_reasoning_tokens`: of the completion's, those of reasoning."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": n_reasoning_tokens},
    }


def truncation_headers(*generations: Generation) -> dict[str, str]:
    """What the truncation policy left out of the prompts; nothing where it left nothing out."""
    n_dropped = sum(one.n_dropped_tokens for one in generations)
    if not n_dropped:
        return {}
    n_messages = sum(one.n_dropped_messages for one in generations)
    return {DROPPED_MESSAGES: str(n_messages), DROPPED_TOKENS: str(n_dropped)}


def token_logprob(tokenizer: Tokenizer, choice: Choice) -> dict[str, Any]:
    """A token with its log-probability and alternatives, as the chat form has them."""
    return _one(tokenizer, choice) | {"top_logprobs": [_one(tokenizer, one) for one in choice.alternatives]}


def _one(tokenizer: Tokenizer, token: Choice | Alternative) -> dict[str, Any]:
    return {
        "token": tokenizer.decode([token.token_id]),
        "logprob": token.log_probability,
        "bytes": list(tokenizer.decode_bytes([token.token_id])),
    }
