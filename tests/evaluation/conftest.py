"""A tiny random model with its tokenizer, in memory and as a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parakit.checkpoints import save_model
from parakit.common import Lineage
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer

TEXT = """Anna sees the bird. Where does Tom work? Question: Which is right, the books or the book?
Please tell me what this means in French: how many children are there? Answer: He has 12. It was not.
"""


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter([TEXT * 10]), TokenizerConfig(vocab_size=400))


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> LanguageModel:
    """Every matrix is drawn: the blocks of a fresh model add nothing."""
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=16,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=4,
        d_ff=24,
        max_seq_len=256,
    )
    model = LanguageModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return model.eval()


@pytest.fixture(scope="session")
def model_folder(
    model: LanguageModel, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    return save_model(model, tokenizer, path, Lineage("model", {"chat": True}))
