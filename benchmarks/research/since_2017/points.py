"""The ablations since 2017: each changes one thing of the one before it.

All are decoders over bytes with equal parameters (the feed-forward width gives way), trained on the same text for
the same processor time. The first is the Transformer as published, the last Parakit's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parakit.model.config import DecoderConfig

N_PARAMS = 300_000
SEQ_LEN = 128
WIDTH, LAYERS, HEADS = 96, 3, 4

ORIGINAL: dict[str, Any] = {
    "positions": "sinusoidal",
    "embedding_scale": WIDTH**0.5,
    "post_norm": True,
    "final_norm": False,
    "norm": "layer",
    "norm_bias": True,
    "norm_eps": 1e-5,
    "activation": "relu",
    "gated": False,
    "feed_forward_bias": True,
    "attention_bias": True,
    "attention_output_bias": True,
    "query_key_norm": False,
    "n_kv_heads": HEADS,
}


@dataclass(frozen=True)
class Change:
    """One change: its name and year, and the settings of shape, initialisation and optimizer that it changes."""

    name: str
    year: int
    source: str
    shape: Mapping[str, Any] = field(default_factory=dict)
    xavier: bool | None = None
    optimizer: str | None = None
    schedule: str | None = None


ABLATIONS = (
    Change(
        "Transformer", 2017, "Vaswani et al.", ORIGINAL, xavier=True, optimizer="adamw", schedule="inverse_sqrt"
    ),
    Change("learned positions", 2018, "GPT", {"positions": "learned", "embedding_scale": 1.0}),
    Change("GELU", 2018, "GPT, BERT", {"activation": "gelu"}),
    Change("pre-norm", 2019, "GPT-2; Xiong et al. 2020", {"post_norm": False, "final_norm": True}),
    Change("cosine schedule", 2020, "GPT-3", schedule="cosine"),
    Change("gated SwiGLU", 2020, "Shazeer", {"activation": "silu", "gated": True}),
    Change("rotary positions", 2021, "Su et al.", {"positions": "rotary"}),
    Change("no biases", 2022, "PaLM", {"feed_forward_bias": False, "attention_bias": False,
                                      "attention_output_bias": False, "norm_bias": False}),
    Change("RMSNorm", 2023, "Llama", {"norm": "rms", "norm_eps": 1e-6}),
    Change("grouped queries", 2023, "Ainslie et al.", {"n_kv_heads": HEADS // 2}),
    Change("query-key norm", 2023, "Dehghani et al.; Qwen3", {"query_key_norm": True}),
    Change("blocks begin as identity", 2023, "Zhang et al. 2019; muP", xavier=False),
    Change("warm-up, stable, decay", 2024, "MiniCPM", schedule="wsd"),
    Change("Muon", 2024, "Jordan et al.", optimizer="muon"),
)  # fmt: skip


@dataclass(frozen=True)
class AblationStep:
    """A change together with all before it."""

    point: Change
    config: DecoderConfig
    xavier: bool
    optimizer: str
    schedule: str


def ablation_steps() -> list[AblationStep]:
    """Every change with all before it."""
    shape: dict[str, Any] = {}
    xavier, optimizer, schedule = True, "", ""
    found = []
    for point in ABLATIONS:
        shape |= point.shape
        xavier = xavier if point.xavier is None else point.xavier
        optimizer, schedule = point.optimizer or optimizer, point.schedule or schedule
        found.append(AblationStep(point, config_of(shape), xavier, optimizer, schedule))
    return found


def config_of(shape: Mapping[str, Any], n_params: int = N_PARAMS) -> DecoderConfig:
    """The decoder of such a shape whose feed-forward width brings it closest to `n_params`."""

    def of_width(d_ff: int) -> DecoderConfig:
        return DecoderConfig(
            vocab_size=257, d_model=WIDTH, n_layers=LAYERS, n_heads=HEADS, head_dim=WIDTH // HEADS, d_ff=d_ff,
            max_seq_len=SEQ_LEN, **shape,
        )  # fmt: skip

    return min(
        map(of_width, range(64, 1024, 8)), key=lambda config: abs(config.n_params()["total"] - n_params)
    )
