"""Tokens: tokenizers (trained, loaded, published), the chat template, token shards on disk, and batches as a
function of the row number. Never torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Batch": "batches.token_batches",
        "BatchConfig": "config",
        "BatchSource": "batches.token_batches",
        "ChatIds": "chat.template",
        "Framed": "tokenizer.special_tokens_template",
        "TokenShards": "shards",
        "Tokenizer": "tokenizer.tokenizer",
        "TokenizerConfig": "config",
        "compile_chat": "chat.template",
        "evaluation_batches": "batches.token_batches",
        "frame_text": "tokenizer.special_tokens_template",
        "framed_for": "tokenizer.special_tokens_template",
        "published_tokenizer": "importers.published",
        "rank_rows": "batches.token_batches",
        "train_tokenizer": "tokenizer.training",
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
