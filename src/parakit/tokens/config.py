"""Settings of tokenizers and of rows of tokens. Imports neither torch nor tokenizers."""

from typing import ClassVar, Literal

from pydantic import Field

from parakit.common.choices import ChoiceConfig, part_of
from parakit.common.settings import Choices, Config

TokenizerKind = Literal["byte_bpe", "wordpiece", "unigram", "word", "char"]
Packing = Literal["concat", "pack"]
TooLong = Literal["truncate", "refuse"]  # what happens to an input over the limit
LongRowRule = Literal["truncate", "drop", "refuse"]  # and to a row of training data


class DigitSplitting(Config):
    """Of tokenizers whose tokens may hold several characters."""

    split_digits: bool = Field(
        default=True, description="Make each digit a token of its own, which helps arithmetic."
    )


class MergeTies(DigitSplitting):
    """Of byte_bpe."""

    ties: Literal["lowest_id", "greatest_pair"] = Field(
        default="lowest_id",
        description="Which of two equally frequent pairs merges first: lowest_id as the tokenizers "
        "library does, or greatest_pair by the greater bytes (Parakit's own, slower trainer).",
    )


class UnigramPieces(DigitSplitting):
    """Of unigram."""

    byte_fallback: bool = Field(
        default=False,
        description="Spell characters outside the vocabulary as bytes instead of UNK; takes 256 tokens.",
    )


class TokenizerConfig(ChoiceConfig):
    """How a tokenizer is trained."""

    choices: ClassVar[Choices] = {
        "kind": {
            "byte_bpe": MergeTies,
            "wordpiece": DigitSplitting,
            "unigram": UnigramPieces,
            "word": DigitSplitting,
        }
    }

    kind: TokenizerKind = Field(
        default="byte_bpe", description="Algorithm; byte_bpe encodes every text, the others have UNK."
    )
    vocab_size: int = Field(
        default=4096, ge=16, le=1_000_000, description="Largest vocabulary, special tokens included."
    )
    lowercase: bool = Field(
        default=False, description="Lowercase the text before splitting; decoding cannot restore it."
    )
    n_sentinels: int = Field(
        default=0, ge=0, le=1000, description="Sentinel tokens for span corruption; T5 has 100."
    )
    max_train_bytes: int | None = Field(
        default=None, ge=1, description="Read at most this many bytes of the training text."
    )


class LongRowSettings(Config):
    """Rows that are not cut into windows: conversations, examples, rankings."""

    too_long: LongRowRule = Field(
        default="truncate",
        description="What happens to a row that is longer than seq_len: it is cut there (truncate; of a ranking the"
        " prompt, on the left), left out (drop), or stops the run (refuse). A row without a counted token is"
        " always left out.",
    )


def long_row_rule(config: Config) -> LongRowRule:
    """What happens to rows that are too long."""
    settings = part_of(config, LongRowSettings)
    return settings.too_long if settings else "truncate"
