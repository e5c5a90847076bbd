"""Tokenizers that others published: vocabularies from the files of their release, and the tokenizers of model folders
that have no tokenizer.json. All of them become one; nothing in a folder is run.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "convert_tokenizer": "folder",
        "published_tokenizer": "published",
        "read_sentencepiece": "sentencepiece_model",
    },
)

__all__ = ["convert_tokenizer", "published_tokenizer", "read_sentencepiece"]
