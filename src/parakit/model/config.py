"""The shape of a decoder, and what follows from it without building anything: parameters by part,
floating-point operations.

The default is Qwen3's shape: RMSNorm before each sublayer, rotary positions, grouped-query attention with
normalised queries and keys, SwiGLU, tied embeddings. Imports no torch.
"""

from typing import Self

from pydantic import Field, model_validator

from parakit.common.settings import Config


class DecoderConfig(Config):
    """A decoder's architecture. Widths are in features, counts in pieces, `max_seq_len` in tokens."""

    vocab_size: int = Field(ge=1)
    d_model: int = Field(ge=1)
    n_layers: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    n_kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    d_ff: int = Field(ge=1)
    max_seq_len: int = Field(default=1024, ge=1)
    rope_theta: float = Field(default=10_000.0, gt=0)
    norm_eps: float = Field(default=1e-6, gt=0)
    tie_embeddings: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads = {self.n_heads} is not a multiple of n_kv_heads = {self.n_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim = {self.head_dim} is odd, and rotary positions turn pairs of features"
            )
        return self

    def n_params(self) -> dict[str, int]:
        """Exact parameter counts by part; `total` counts tied embeddings once."""
        d, h = self.d_model, self.head_dim
        attention = d * h * (2 * self.n_heads + 2 * self.n_kv_heads) + 2 * h
        counts = {
            "token_embedding": self.vocab_size * d,
            "attention": self.n_layers * attention,
            "feed_forward": self.n_layers * 3 * d * self.d_ff,
            "norms": (2 * self.n_layers + 1) * d,
            "lm_head": 0 if self.tie_embeddings else self.vocab_size * d,
        }
        return counts | {"total": sum(counts.values())}

    def n_matmul_params(self) -> int:
        """Parameters that multiply every token: all matrices, the output head included, the
        embedding look-up not.
        """
        d, h = self.d_model, self.head_dim
        layer = d * h * (2 * self.n_heads + 2 * self.n_kv_heads) + 3 * d * self.d_ff
        return self.n_layers * layer + self.vocab_size * d

    def flops_per_token(self, seq_len: int, training: bool = True) -> float:
        """Floating-point operations for one token in a sequence of `seq_len`.

        Forward: 2 per matrix parameter, and 2 * 2 * heads * head_dim per attended position, of
        which a causal token has (seq_len + 1) / 2 on average. Training adds the backward pass at
        twice the forward (Kaplan et al. 2020, section 2.1). Norms, softmax and element-wise work
        are left out, as is customary.
        """
        attended = (seq_len + 1) / 2
        forward = 2 * self.n_matmul_params() + 4 * self.n_layers * self.n_heads * self.head_dim * attended
        return float(forward * (3 if training else 1))
