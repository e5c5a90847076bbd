"""Speaking and reading: from a model and a text to ids, to text, to a conversation; to a translation, to labels, to
hidden words, to vectors. Names are imported on first use, so settings cost no torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Beam": "generation.beam_search",
        "BeamConfig": "config",
        "ChatConfig": "config",
        "ChatSession": "chat",
        "Classification": "prediction.classification",
        "Completion": "generation.text",
        "KVCache": "generation.kv_cache",
        "SamplingConfig": "config",
        "classify": "prediction.classification",
        "decode_step": "generation.decoding",
        "embed": "prediction.embeddings",
        "fill_masks": "prediction.fill_mask",
        "generate": "generation.text",
        "generate_batch": "generation.text",
        "generate_ids": "generation.decoding",
        "generate_sequences": "generation.seq_to_seq",
        "prefill": "generation.decoding",
        "regress": "prediction.classification",
        "beam_search": "generation.beam_search",
        "beam_search_sequences": "generation.seq_to_seq",
        "stream": "generation.text",
        "stream_ids": "generation.decoding",
        "tag": "prediction.classification",
        "translate": "generation.seq_to_seq",
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
    "beam_search",
    "beam_search_sequences",
    "stream",
    "stream_ids",
    "tag",
    "translate",
]
