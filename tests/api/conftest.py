"""Folders of tiny random models: a decoder as Parakit and as transformers save it, and one of every other kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from parakit.checkpoints import save_model
from parakit.common import Lineage
from parakit.model import (
    Classifier,
    ClassifierConfig,
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    LanguageModel,
    MaskedLanguageModel,
    SequenceToSequence,
)
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer

TEXT = "the small bird sees a red tree and sings near the old house. "
SIZES = {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "head_dim": 4, "d_ff": 24}
T5 = {
    **{"positions": "relative", "attention_scale": 1.0, "query_key_norm": False, "norm": "rms"},
    **{"norm_eps": 1e-6, "activation": "gelu_tanh"},
}
T5_ENCODER = {"embedding_norm": False, "head_transform": False, "lm_head_bias": False}


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draw every matrix: a new model's blocks add nothing to the residual stream."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter.requires_grad:
                parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
    return model.eval()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter([TEXT * 20]), TokenizerConfig(vocab_size=300))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A folder for each kind: decoder, tuned, published, encoder, translator, classifier, tagger, scorer."""
    folder = tmp_path_factory.mktemp("models")
    sizes = {**SIZES, "vocab_size": tokenizer.vocab_size, "max_seq_len": 64}
    encoder, t5 = EncoderConfig(**sizes), {**sizes, **T5}
    decoder = LanguageModel(DecoderConfig(**sizes))
    models = {
        "decoder": decoder,
        "encoder": MaskedLanguageModel(encoder),
        "translator": SequenceToSequence(
            EncoderDecoderConfig(encoder=EncoderConfig(**t5, **T5_ENCODER), decoder=DecoderConfig(**t5))
        ),
        "classifier": Classifier(encoder, ClassifierConfig(labels=("bad", "good"))),
        "tagger": Classifier(encoder, ClassifierConfig(labels=("noun", "verb"), level="token")),
        "scorer": Classifier(encoder, ClassifierConfig(labels=("score",), regression=True)),
    }
    for seed, (name, model) in enumerate(models.items()):
        save_model(randomize(model, seed), tokenizer, folder / name, Lineage("model"))
    save_model(decoder, tokenizer, folder / "tuned", Lineage("model", {"chat": True}))
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    randomize(transformers.LlamaForCausalLM(config), 9).save_pretrained(folder / "published")
    transformers.AutoTokenizer.from_pretrained(folder / "decoder").save_pretrained(folder / "published")
    return folder
