"""The gated delta rule: chunks compute the recurrence, documents and padding stay apart, and everything trains."""

import pytest
import torch

from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel, reset_weights
from parakit.model.layers.gated_delta import GatedDeltaRule, gated_delta_rule
from parakit.model.layers.masks import document_mask, documents_of

RULE = {"layers": (0, 2), "n_key_heads": 2, "n_value_heads": 4, "key_dim": 6, "value_dim": 5}
SIZES = {
    **{"vocab_size": 50, "d_model": 16, "n_layers": 3, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    **{"d_ff": 24, "max_seq_len": 256},
}
HYBRID = DecoderConfig(**SIZES, delta_rule=RULE, attention_gate=True, zero_centered_norm=True, rotary_dim=4)
MIXTURE = HYBRID.replace(n_experts=3, d_expert=16, n_shared_experts=1, shared_expert_gate=True)
SINKS = DecoderConfig(
    **SIZES,
    **{"attention_sinks": True, "n_experts": 3, "expert_bias": True, "glu_limit": 2.0},
    **{"sliding_window": 4, "local_layers": (0,), "query_key_norm": False, "attention_bias": True},
)


def model_of(config: DecoderConfig) -> LanguageModel:
    """A model whose parameters are all random."""
    torch.manual_seed(3)
    model = LanguageModel(config).eval()
    reset_weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def inputs_of(n_tokens: int, n_rows: int = 2) -> list[torch.Tensor]:
    """Queries, keys, values, logarithms of decays, and betas, in float64."""
    generator = torch.Generator().manual_seed(n_tokens)

    def draw(*shape):
        return torch.randn(n_rows, 3, n_tokens, *shape, generator=generator, dtype=torch.float64)

    query, key = draw(6), torch.nn.functional.normalize(draw(6), dim=-1)
    return [query, key, draw(5), -draw().abs(), draw().sigmoid()]


def recurrence(query, key, value, log_decay, beta, state=None):
    """Token by token, as the paper's equation 10 has it."""
    state = key.new_zeros(*key.shape[:2], 6, 5) if state is None else state
    read = []
    for t in range(key.shape[2]):
        state = state * log_decay[:, :, t].exp()[..., None, None]
        k, v, share = key[:, :, t, :, None], value[:, :, t, None, :], beta[:, :, t, None, None]
        state = state + share * k @ (v - k.mT @ state)
        read.append(query[:, :, t, None] @ state * 6**-0.5)
    return torch.cat(read, 2), state


@pytest.mark.parametrize("n_tokens", [1, 7, 64, 150])
def test_chunks_compute_the_recurrence(n_tokens):
    inputs = inputs_of(n_tokens)
    read, state = gated_delta_rule(*inputs)
    wanted, last = recurrence(*inputs)
    torch.testing.assert_close(read, wanted)
    torch.testing.assert_close(state, last)
    more = inputs_of(70)
    torch.testing.assert_close(gated_delta_rule(*more, state)[0], recurrence(*more, state)[0])


def test_documents_begin_with_an_empty_state():
    inputs = inputs_of(200)
    lengths = [3, 80, 1, 44, 72]  # within chunks, over their edges, and more than one in a chunk
    documents = torch.repeat_interleave(torch.arange(5), torch.tensor(lengths))[None]
    read, state = gated_delta_rule(*inputs, documents=documents)
    parts = zip(*(x.split(lengths, 2) for x in inputs), strict=True)
    results = [recurrence(*part) for part in parts]
    torch.testing.assert_close(read, torch.cat([result for result, _ in results], 2))
    torch.testing.assert_close(state, results[-1][1])


def test_documents_are_read_from_their_mask():
    documents = torch.tensor([[3, 3, 5, 9, 9, 9], [1, 1, 1, 1, 2, 2]])
    found = documents_of(document_mask(documents))
    assert found.tolist() == [[0, 0, 1, 2, 2, 2], [0, 0, 0, 0, 1, 1]]


@torch.no_grad()
@pytest.mark.parametrize("config", [HYBRID, MIXTURE], ids=["dense", "experts"])
def test_packed_documents_and_padding_do_not_leak(config):
    model = model_of(config)
    ids = torch.randint(0, 50, (1, 100), generator=torch.Generator().manual_seed(1))
    lengths = [2, 70, 28]
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    packed = model(ids, attention_mask=document_mask(documents), position_ids=positions)
    alone = torch.cat([model(part) for part in ids.split(lengths, 1)], 1)
    torch.testing.assert_close(packed, alone, atol=2e-5, rtol=1e-4)
    for side in (slice(0, 28), slice(5, 33)):  # padding on the right, then on the left
        row = torch.full((1, 33), 7)
        row[:, side] = ids[:, -28:]
        mask = torch.zeros(1, 33, dtype=torch.bool)
        mask[:, side] = True
        padded = model(row, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
        torch.testing.assert_close(padded[:, side], alone[:, -28:], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [HYBRID, MIXTURE, SINKS], ids=["delta rule", "shared expert", "sinks"])
def test_every_parameter_has_a_gradient_and_is_counted(config):
    model = model_of(config).train()
    ids = torch.randint(0, 50, (2, 30), generator=torch.Generator().manual_seed(1))
    torch.nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    assert config.n_params()["total"] == sum(p.numel() for p in model.parameters())


def test_a_fresh_layer_decays_at_many_rates():
    model = LanguageModel(HYBRID.replace(delta_rule={**RULE, "n_value_heads": 64}))
    reset_weights(model)
    layer = model.trunk.blocks[0].attention
    assert isinstance(layer, GatedDeltaRule)
    assert 0.01 <= layer.log_decay_rate.exp().min() < 2 < 12 < layer.log_decay_rate.exp().max() <= 16
    assert layer.decay_bias.eq(1).all()
