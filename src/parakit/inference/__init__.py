"""Speaking and reading: from a model and a text to ids, to text, to a conversation; to a translation, to labels, to
hidden words, to vectors. Names are imported on first use, so settings cost no torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Beam": "beam_search",
        "BeamConfig": "config",
        "ChatConfig": "config",
        "ChatSession": "chat",
        "Classification": "reading.classification",
        "Completion": "text",
        "KVCache": "kv_cache",
        "SamplingConfig": "config",
        "classify": "reading.classification",
        "decode_step": "decoding",
        "embed": "reading.embeddings",
        "fill_masks": "reading.fill_mask",
        "generate": "text",
        "generate_batch": "text",
        "generate_ids": "decoding",
        "generate_sequences": "seq_to_seq",
        "prefill": "decoding",
        "regress": "reading.classification",
        "search_ids": "beam_search",
        "search_sequences": "seq_to_seq",
        "stream": "text",
        "stream_ids": "decoding",
        "tag": "reading.classification",
        "translate": "seq_to_seq",
    },
)

__all__ = [
    "Beam",
    "BeamConfig",
    "ChatConfig",
    "ChatSession",
    "Classification",
    "Completion",
    "KVCache",
    "SamplingConfig",
    "classify",
    "decode_step",
    "embed",
    "fill_masks",
    "generate",
    "generate_batch",
    "generate_ids",
    "generate_sequences",
    "prefill",
    "regress",
    "search_ids",
    "search_sequences",
    "stream",
    "stream_ids",
    "tag",
    "translate",
]
