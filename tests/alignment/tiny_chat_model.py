"""A tiny model with random weights and a byte-level tokenizer, for tests in which somebody has to speak."""

from __future__ import annotations

from pathlib import Path

import torch

from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer

WORDS = "How do I steal a car? I can't help with that. Stealing is wrong. Yes. No. A B Question: Answer:"


def tiny_chat_model(max_seq_len: int = 256, seed: int = 0) -> tuple[LanguageModel, Tokenizer]:
    """Every matrix is drawn, so that greedy choices are no ties."""
    tokenizer = train_tokenizer(iter([WORDS] * 20), TokenizerConfig(kind="byte_bpe", vocab_size=320))
    torch.manual_seed(seed)
    model = LanguageModel(
        DecoderConfig(
            vocab_size=tokenizer.vocab_size, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=24,
            max_seq_len=max_seq_len,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
    return model.eval(), tokenizer


def chat_model_folder(path: Path, max_seq_len: int = 256, seed: int = 0) -> Path:
    """The tiny model as a folder."""
    model, tokenizer = tiny_chat_model(max_seq_len, seed)
    save_model(model, tokenizer, path, Lineage("model", {"chat": True}))
    return path
