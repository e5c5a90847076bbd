"""Objectives that hide a part of plain text: masked tokens, spans behind sentinels, everything after a prefix.

Each wraps a `BatchSource`, and what is hidden is a pure function of (seed, row number).
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MaskedBatch": "masking",
        "MaskedSource": "masking",
        "PrefixBatch": "prefixes",
        "PrefixSource": "prefixes",
        "SpanCorruptionSource": "spans",
        "TokenFacts": "vocab_info",
        "token_facts": "vocab_info",
    },
)

__all__ = [
    "MaskedBatch",
    "MaskedSource",
    "PrefixBatch",
    "PrefixSource",
    "SpanCorruptionSource",
    "TokenFacts",
    "token_facts",
]
