"""The loss on a small fixed text of general English: what a model forgets in tuning raises it.

The text is part of the package: a narrative, news, an encyclopedia's entry, a dialogue, arithmetic and instructions. It is
the same for every model, so that a figure can be compared between runs, and short, so that it costs a second: it shows a
large loss of general ability, not a small one. Suites of questions measure that.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from parakit.common.settings import load_yaml
from parakit.data.documents import Document
from parakit.evaluation.perplexity import LossResult, encode_documents, evaluate_loss
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

TEXT = Path(__file__).with_name("general_text.yaml")
MAX_TOKENS = 2048  # a tokenizer of few tokens makes 4,000 of the text: the last documents are left out


@cache
def general_texts() -> dict[str, str]:
    """The texts by their kind."""
    return {kind: text.strip() for kind, text in load_yaml(TEXT).items()}


def general_loss(model: LanguageModel, tokenizer: Tokenizer, n_texts: int | None = None) -> LossResult:
    """The exact loss on the first `n_texts` (None: all), in windows of the model's length, and on at most `MAX_TOKENS`
    tokens. Rows are as long as their texts.
    """
    texts = list(general_texts().items())[:n_texts]
    shards = encode_documents(tokenizer, (Document(text, kind, len(text.encode())) for kind, text in texts))
    if shards.n_tokens > MAX_TOKENS:
        offsets = shards.offsets[: max(2, int((shards.offsets <= MAX_TOKENS).sum()))]
        ids = shards.token_ids[: int(offsets[-1])]
        shards = replace(shards, token_ids=ids, offsets=offsets, n_bytes=0)  # no bits per byte of a part
    return evaluate_loss(model, shards, unk_id=tokenizer.unk_id)
