"""Settings of the tokens room: which tokenizer to train and how documents become rows of a batch. Imports
neither torch nor tokenizers.
"""

from typing import Literal

from pydantic import Field

from parakit.common.settings import Config

TokenizerKind = Literal["byte_bpe", "wordpiece", "unigram", "word", "char"]
Packing = Literal["concat", "pack"]


class TokenizerConfig(Config):
    """How a tokenizer is trained."""

    kind: TokenizerKind = Field(
        default="byte_bpe", description="byte_bpe never meets an unknown character; the others have UNK."
    )
    vocab_size: int = Field(
        default=4096, ge=16, le=1_000_000, description="An upper limit; special tokens included."
    )
    lowercase: bool = Field(
        default=False, description="Fold case before splitting; decoding cannot bring it back."
    )
    split_digits: bool = Field(
        default=True, description="Each digit is a token of its own, which helps arithmetic."
    )
    n_sentinels: int = Field(
        default=0, ge=0, le=1000, description="Sentinels for span corruption; T5 has 100."
    )
    max_train_bytes: int | None = Field(
        default=None, ge=1, description="Stop reading the training text after so many bytes."
    )
    ties: Literal["lowest_id", "greatest_pair"] = Field(
        default="lowest_id",
        description="byte_bpe: which of two equally frequent pairs merges first: the library's rule, or the "
        "textbook's (greater bytes first), which our own slower code trains.",
    )


class BatchConfig(Config):
    """How documents become rows."""

    seq_len: int = Field(default=256, ge=1, description="Tokens in a row.")
    packing: Packing = Field(
        default="concat", description="concat: documents may be cut; pack: a conversation stays in one row."
    )
    too_long: Literal["truncate", "refuse"] = Field(
        default="truncate", description="pack: what happens to a document longer than a row."
    )
