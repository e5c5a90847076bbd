"""Examples of a task as token ids: encoded once, memory-mapped, and served in batches of like length."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ExampleShards": "shards",
        "LabelledBatch": "batches",
        "LabelledSource": "sources",
        "PairBatch": "batches",
        "PairSource": "sources",
        "TextPairBatch": "batches",
        "TextPairSource": "sources",
        "encode_examples": "encoding",
    },
)

__all__ = [
    "ExampleShards",
    "LabelledBatch",
    "LabelledSource",
    "PairBatch",
    "PairSource",
    "TextPairBatch",
    "TextPairSource",
    "encode_examples",
]
