"""Operations counted from shapes are those that PyTorch counts while it computes."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from parakit.model import DecoderConfig, EncoderConfig, LanguageModel, MaskedLanguageModel
from parakit.model.adapters import attach, make_lora
from parakit.model.adapters.config import LoraConfig
from parakit.planning.operations import (
    forward_flops,
    head_flops,
    inference_flops,
    matrix_flops,
    newton_schulz_flops,
    score_flops,
    six_nd,
    step_operations,
)
from parakit.planning.runs import RunSpec, lora_parameters
from parakit.training.optimizers.muon import Muon
from parakit.training.optimizers.optimizer import is_matrix

pytestmark = pytest.mark.usefixtures("without_kernels")  # the counter sees PyTorch's own operations only

T = 24
SHAPE = {
    "d_model": 48,
    "n_layers": 3,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 8,
    "d_ff": 128,
    "max_seq_len": T,
}
GPT = {"norm": "layer", "gated": False, "positions": "learned", "activation": "gelu", "query_key_norm": False}


def decoder(**changes: object) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(DecoderConfig(vocab_size=64, **{**SHAPE, **changes}))


def counted(work) -> int:
    """Operations of matrix products by PyTorch's own counter, with attention as two of them."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def whole_scores(model: LanguageModel) -> float:
    """What attention takes when it computes the scores of all pairs, those that a mask removes included."""
    config = model.config
    return 4.0 * config.n_layers * config.n_heads * config.head_dim * T


@pytest.mark.parametrize("changes", [{}, GPT, {"tie_embeddings": False, "n_kv_heads": 6}])
def test_a_forward_and_a_backward_pass(changes: dict[str, object]) -> None:
    model = decoder(**changes)
    ids = torch.randint(64, (2, T))
    n, config = ids.numel(), model.config
    attended = score_flops(config, T)
    assert attended == pytest.approx(
        whole_scores(model) * (T + 1) / (2 * T)
    )  # half of the pairs, and oneself
    found = counted(lambda: model(ids))
    assert found == n * (matrix_flops(config) + head_flops(config) + whole_scores(model))
    assert forward_flops(config, n, T, n) == pytest.approx(found - n * (whole_scores(model) - attended))
    both = counted(lambda: model(ids).sum().backward())
    spec = RunSpec(config, seq_len=T, n_rows=2, micro_batch_size=2)
    step = step_operations(spec)
    assert both == pytest.approx(step.total + 3 * n * (whole_scores(model) - attended))


def test_an_encoder_attends_to_all() -> None:
    torch.manual_seed(0)
    model = MaskedLanguageModel(EncoderConfig(vocab_size=64, **SHAPE))
    ids = torch.randint(64, (2, T))
    config = model.config
    found = counted(lambda: model(ids))
    assert forward_flops(config, ids.numel(), T, ids.numel()) == found


def test_frozen_matrices_cost_a_third_less() -> None:
    model = decoder()
    attach(model, make_lora(model, LoraConfig(rank=4)))
    trained = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora" in name)
        trained += parameter.numel() * ("lora" in name)
    assert trained == lora_parameters(model.config, 4)
    hidden = counted(lambda: model.hidden(torch.randint(64, (2, T))).sum().backward())
    spec = RunSpec(model.config, "lora", seq_len=T, n_rows=2, micro_batch_size=2, counted_share=0.0)
    own = step_operations(spec).total + 3 * 2 * T * (whole_scores(model) - score_flops(model.config, T))
    factors = 6.0 * trained * 2 * T  # the adapters' own, which the plan leaves out: small where the rank is
    first = 2.0 * 2 * T * sum(  # the first block's inputs need no gradient
        weight.numel() for name, weight in model.trunk.blocks[0].attention.named_parameters() if name.endswith("base.weight")
        and name[0] in "qkv"
    )  # fmt: skip
    assert hidden == pytest.approx(own + factors - first, rel=0.02)


def test_checkpointing_adds_a_forward_pass_of_the_blocks() -> None:
    config = decoder().config
    spec = RunSpec(config, seq_len=T, n_rows=2, micro_batch_size=2)
    again = step_operations(spec.changed(checkpointing=True)).total - step_operations(spec).total
    assert again == pytest.approx(forward_flops(config, 2 * T, T, 0))


def test_one_more_token_with_a_cache() -> None:
    """2 N, and scores and sums over what is cached."""
    config = decoder().config
    matrices = 2 * config.n_matmul_params()
    assert inference_flops(config, 0) == matrices
    assert (
        inference_flops(config, 100)
        == matrices + 4 * config.n_layers * config.n_heads * config.head_dim * 100
    )
    windowed = decoder(sliding_window=8).config
    assert inference_flops(windowed, 100) == inference_flops(windowed, 8)


def test_muons_products() -> None:
    model = decoder()
    model(torch.randint(64, (1, T))).sum().backward()
    muon = Muon([(name, p) for name, p in model.named_parameters() if is_matrix(name, p)], 0.0)
    assert counted(muon.step) == newton_schulz_flops(model.config)


def test_the_rule_counts_no_attention_and_the_embedding_once() -> None:
    """With tied embeddings 6 N D is the matrices' operations but for norms."""
    config = decoder().config
    n = config.n_params()["total"]
    exact = 3 * (matrix_flops(config) + head_flops(config))
    assert six_nd(n, 1) == pytest.approx(exact, rel=0.02)
