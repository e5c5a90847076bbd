"""Tokens: tokenizers, the chat template, token shards on disk, and batches as a function of the row number. Never
torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BatchSource": "batches.source",
        "TokenShards": "shards",
        "Tokenizer": "tokenizer.tokenizer",
        "TokenizerConfig": "config",
        "compile_chat": "chat.template",
        "train_tokenizer": "tokenizer.training",
        "write_shards": "shards",
    },
)

__all__ = [
    "BatchSource",
    "TokenShards",
    "Tokenizer",
    "TokenizerConfig",
    "compile_chat",
    "train_tokenizer",
    "write_shards",
]
