"""Tokens: tokenizers (trained, loaded, published), the chat template, token shards on disk, and batches as a
function of the row number. Never torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Batch": "batches",
        "BatchConfig": "config",
        "BatchSource": "batches",
        "ChatIds": "chat_template",
        "Framed": "framing",
        "TokenShards": "shards",
        "Tokenizer": "tokenizer",
        "TokenizerConfig": "config",
        "compile_chat": "chat_template",
        "evaluation_batches": "batches",
        "frame_text": "framing",
        "framed_for": "framing",
        "published_tokenizer": "foreign.published",
        "rank_rows": "batches",
        "train_tokenizer": "tokenizer_training",
        "write_shards": "shards",
    },
)

__all__ = [
    "Batch",
    "BatchConfig",
    "BatchSource",
    "ChatIds",
    "Framed",
    "TokenShards",
    "Tokenizer",
    "TokenizerConfig",
    "compile_chat",
    "evaluation_batches",
    "frame_text",
    "framed_for",
    "published_tokenizer",
    "rank_rows",
    "train_tokenizer",
    "write_shards",
]
