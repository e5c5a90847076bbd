"""The gated delta rule (Yang et al. 2024, "Gated delta networks"): attention that reads from a matrix of constant size.

Each head keeps a matrix S that maps keys to values. A token lets S decay by alpha, then corrects what S gives for its key
towards its value, by a share b, its write rate: S <- alpha S + b k (v - alpha S^T k)^T; and reads S^T q. Queries, keys and
values pass through a short causal convolution before. Chunks of tokens are computed by matrix products (section 3.3 there):
within a chunk the corrections solve a triangular system, and S is carried from chunk to chunk.

Shapes: B batch, T tokens, H value heads, K features of a key, V features of a value, F features that are convolved, W width
of the convolution, N chunks, C tokens of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.layers.attention import Cache, Rotation
from parakit.model.layers.feed_forward import ACTIVATIONS
from parakit.model.layers.norms import RMSNorm
from parakit.model.transformer_config import TransformerConfig

CHUNK_LEN = 64
L2_EPS = 1e-6


class GatedDeltaRule(nn.Module):
    """A layer of the gated delta rule in the place of attention (Qwen3.5); `layer` is the block's number."""

    def __init__(self, config: TransformerConfig, layer: int, causal: bool) -> None:
        super().__init__()
        rule, d = config.delta_rule, config.d_model
        assert rule is not None
        assert causal, "a decoder's layer"
        self.layer, self.rule = layer, rule
        self.widths = (rule.n_key_heads * rule.key_dim,) * 2 + (rule.n_value_heads * rule.value_dim,)
        self.query_key_value = nn.Linear(d, sum(self.widths), bias=False)
        self.filters = nn.Parameter(torch.empty(sum(self.widths), rule.conv_kernel_size))
        self.gate = nn.Linear(d, self.widths[2], bias=False)
        self.write_rate = nn.Linear(d, rule.n_value_heads, bias=False)
        self.decay = nn.Linear(d, rule.n_value_heads, bias=False)
        self.decay_bias = nn.Parameter(torch.empty(rule.n_value_heads))
        self.log_decay_rate = nn.Parameter(torch.empty(rule.n_value_heads))
        self.norm = RMSNorm(rule.value_dim, config.norm_eps)
        self.output = nn.Linear(self.widths[2], d, bias=False)
        self.activation = ACTIVATIONS[config.activation]

    def reset(self) -> None:
        """Initialize the convolution, and decays from slow to fast, as Mamba-2 does."""
        nn.init.normal_(self.filters, std=self.filters.shape[1] ** -0.5)
        nn.init.ones_(self.decay_bias)
        nn.init.uniform_(self.log_decay_rate, 0.01, 16)
        self.log_decay_rate.log_()

    def forward(
        self, x: Tensor, rotation: Rotation | None, attention_mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """x (B, T, d_model). The mask (B or 1, T): bool, True = a real token; or int64, the number of the document that
        each token of a packed row belongs to; None: every row is one document. Behind a cache padding is on the right.
        """
        documents = None
        if attention_mask is not None and attention_mask.dtype != torch.bool:
            documents, attention_mask = attention_mask, None
        if attention_mask is not None:
            x = x * attention_mask[..., None]
        state = None if cache is None else cache.state(self.layer)
        before, matrix = (None, None) if state is None else state
        mixed, inputs = self._convolve(self.query_key_value(x), documents, before)
        query, key, value = (
            part.unflatten(-1, (n, -1)).transpose(1, 2)  # (B, heads, T, features)
            for part, n in zip(mixed.split(self.widths, -1), self._n_heads, strict=True)
        )
        log_decay, write_rate = self._gates(x, attention_mask)
        with torch.autocast(x.device.type, enabled=False):  # long sums need float32
            read, matrix = gated_delta_rule(
                self._repeat(_normalize(query)),
                self._repeat(_normalize(key)),
                value,
                log_decay,
                write_rate,
                matrix,
                documents,
            )
        if cache is not None:
            cache.set_state(self.layer, _newest(inputs, attention_mask, x.shape[1]), matrix, x.shape[1])
        read = self.norm(read.transpose(1, 2).to(x.dtype))  # (B, T, H, V)
        gates = functional.silu(_at_least_float32(self.gate(x))).view_as(read)
        return self.output((read * gates).to(x.dtype).flatten(2))

    @property
    def _n_heads(self) -> tuple[int, int, int]:
        return self.rule.n_key_heads, self.rule.n_key_heads, self.rule.n_value_heads

    def _repeat(self, x: Tensor) -> Tensor:
        """Queries or keys for every value head."""
        return x.repeat_interleave(self.rule.n_value_heads // self.rule.n_key_heads, 1)

    def _gates(self, x: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithm of alpha, and write rates, (B, H, T) each, at least float32: 0 for padding, which changes no state."""
        decay, write_rate = _at_least_float32(self.decay(x)), _at_least_float32(self.write_rate(x)).sigmoid()
        rate = self.log_decay_rate.to(decay.dtype).exp()
        log_decay = -rate * functional.softplus(decay + self.decay_bias.to(decay.dtype))
        if real is not None:
            log_decay, write_rate = log_decay * real[..., None], write_rate * real[..., None]
        return log_decay.transpose(1, 2), write_rate.transpose(1, 2)

    def _convolve(self, x: Tensor, documents: Tensor | None, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (B, T, F), and the W - 1 inputs before -> a sum of each feature over the W newest tokens, and all inputs,
        (B, W - 1 + T, F).
        """
        n_tokens, n_before = x.shape[1], self.rule.conv_kernel_size - 1
        if before is None:
            before = x.new_zeros(len(x), n_before, x.shape[2])
        inputs = torch.cat([before.to(x.dtype), x], 1)  # (B, W - 1 + T, F)
        wide, filters = _at_least_float32(inputs), _at_least_float32(self.filters)
        mixed = wide[:, n_before:] * filters[:, -1]
        for distance in range(1, n_before + 1):
            earlier = wide[:, n_before - distance :][:, :n_tokens]
            if documents is not None:
                padded = functional.pad(documents, (distance, 0), value=-1)[:, :n_tokens]
                earlier = earlier * (padded == documents)[..., None]
            mixed = mixed + earlier * filters[:, -1 - distance]
        return self.activation(mixed), inputs


def _newest(inputs: Tensor, real: Tensor | None, n_tokens: int) -> Tensor:
    """Of the inputs (B, W - 1 + T, F) the W - 1 newest of each row, whose real tokens are first."""
    if real is None:
        return inputs[:, n_tokens:]
    n_before = inputs.shape[1] - n_tokens
    index = real.sum(1)[:, None] + torch.arange(n_before, device=inputs.device)
    return inputs.gather(1, index[..., None].expand(-1, -1, inputs.shape[2]))


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.itemsize < 4 else x


def _normalize(x: Tensor) -> Tensor:
    """Vectors of length 1."""
    return x * (x.square().sum(-1, keepdim=True) + L2_EPS).rsqrt()


def gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor,
    write_rate: Tensor,
    state: Tensor | None = None,
    documents: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """query and key (B, H, T, K), value (B, H, T, V), log_decay and write_rate (B, H, T), the state (B, H, K, V) before the
    first token (None: zeros) -> what every token reads (B, H, T, V), and the state after the last. documents (B or 1, T): where
    the number changes, the state begins with zeros.
    """
    n_tokens, length = key.shape[2], min(CHUNK_LEN, key.shape[2])
    missing = -n_tokens % length
    query, key, value = (
        functional.pad(x, (0, 0, 0, missing)).unflatten(2, (-1, length))
        for x in (query * key.shape[-1] ** -0.5, key, value)
    )  # (B, H, N, C, K or V)
    log_decay, write_rate = (
        functional.pad(x, (0, missing)).unflatten(2, (-1, length)) for x in (log_decay, write_rate)
    )
    from_state = log_decay.cumsum(-1).exp()  # (B, H, N, C)
    # [i, j]: the decay from token j to token i; a difference of two sums since the start would lose digits
    pairs = log_decay[..., None].expand(*log_decay.shape, length).tril(-1).cumsum(-2).exp().tril()
    if documents is not None:
        same, follows = _within_documents(documents, length, missing)
        pairs, from_state = pairs * same, from_state * follows
    kept, to_end = from_state[..., -1], pairs[..., -1, :]
    weighted = write_rate[..., None] * key
    system = ((weighted @ key.mT) * pairs).tril(-1)
    right = torch.cat([write_rate[..., None] * value, weighted * from_state[..., None]], -1)
    solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    values, seen = solved.split([value.shape[-1], key.shape[-1]], -1)
    within = (query @ key.mT) * pairs
    query, key = query * from_state[..., None], key * to_end[..., None]
    if state is None:
        state = key.new_zeros(*key.shape[:2], key.shape[-1], value.shape[-1])
    read = []
    for chunk in range(key.shape[2]):
        new = values[:, :, chunk] - seen[:, :, chunk] @ state
        read.append(query[:, :, chunk] @ state + within[:, :, chunk] @ new)
        state = state * kept[:, :, chunk, None, None] + key[:, :, chunk].mT @ new
    return torch.cat(read, 2)[:, :, :n_tokens], state


def _within_documents(documents: Tensor, length: int, missing: int) -> tuple[Tensor, Tensor]:
    """In chunks of `length`, which pairs of tokens are of the same document (B, 1, N, C, C), and which tokens of that of the
    last token before their chunk (B, 1, N, C).
    """
    if missing:
        documents = torch.cat([documents, documents[:, -1:].expand(-1, missing)], 1)
    chunks = documents.unflatten(1, (-1, length))[:, None]
    before = functional.pad(chunks[:, :, :-1, -1:], (0, 0, 1, 0), value=-1)
    return chunks[..., :, None] == chunks[..., None, :], chunks == before
