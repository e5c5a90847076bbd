"""Speaking: from a model and a prompt to ids, to text, to a conversation. Names are imported on first
use, so settings cost no torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ChatConfig": "config",
        "ChatSession": "chat",
        "Completion": "text",
        "KVCache": "kv_cache",
        "SamplingConfig": "config",
        "decode_step": "decoding",
        "generate": "text",
        "generate_batch": "text",
        "generate_ids": "decoding",
        "prefill": "decoding",
        "stream": "text",
        "stream_ids": "decoding",
    },
)

__all__ = [
    "ChatConfig",
    "ChatSession",
    "Completion",
    "KVCache",
    "SamplingConfig",
    "decode_step",
    "generate",
    "generate_batch",
    "generate_ids",
    "prefill",
    "stream",
    "stream_ids",
]
