"""Every Python line of docs/inference.md runs, in its order, on folders of tiny random models."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from parakit.checkpoints import save_model
from parakit.common import Lineage
from parakit.model import (
    Classifier,
    ClassifierConfig,
    DecoderConfig,
    Embedder,
    EmbedderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    LanguageModel,
    MaskedLanguageModel,
    SequenceToSequence,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "inference.md"
SIDE = {
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 4,
    "head_dim": 4,
    "d_ff": 24,
    "max_seq_len": 64,
}
T5 = {
    "positions": "relative",
    "attention_scale": 1.0,
    "query_key_norm": False,
    "norm": "rms",
    "norm_eps": 1e-6,
}
T5_ENCODER = {"embedding_norm": False, "head_transform": False, "lm_head_bias": False}


def models(vocab_size):
    sides = {**SIDE, "vocab_size": vocab_size}
    encoder = EncoderConfig(**sides)
    t5 = {**sides, **T5, "activation": "gelu_tanh"}
    return {
        "assistant": LanguageModel(DecoderConfig(**sides)),
        "translator": SequenceToSequence(
            EncoderDecoderConfig(encoder=EncoderConfig(**t5, **T5_ENCODER), decoder=DecoderConfig(**t5))
        ),
        "encoder": MaskedLanguageModel(encoder),
        "classifier": Classifier(encoder, ClassifierConfig(labels=("negative", "positive"))),
        "tagger": Classifier(encoder, ClassifierConfig(labels=("name", "verb"), level="token")),
        "scorer": Classifier(encoder, ClassifierConfig(labels=("score",), regression=True)),
        "embedder": Embedder(encoder, EmbedderConfig()),
    }


def test_every_line_of_the_page_runs(make_tokenizer, tmp_path, monkeypatch, capsys):
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    for name, model in models(tokenizer.vocab_size).items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
        save_model(model, tokenizer, tmp_path / name, Lineage("model"))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) > 6
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) > 15
