"""Differences of checkpoints equal numpy's norms and singular values; an adapter changes what it was made to change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from parakit.checkpoints.adapters import save_adapter
from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.inspection.differences import (
    OUTSIDE,
    compare_checkpoints,
    effective_rank,
    layer_of,
    singular_values,
)
from parakit.model.adapters import LoraConfig, attach, make_lora

CHANGED = "trunk.blocks.1.attention.query.weight"


@pytest.fixture(scope="module")
def changed(published_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published decoder with a change of rank 2 in one matrix, and one norm's weight doubled."""
    model, tokenizer = load_model(published_decoder)
    torch.manual_seed(0)
    with torch.no_grad():
        weight = model.get_parameter(CHANGED)
        weight += 0.01 * torch.randn(weight.shape[0], 2) @ torch.randn(2, weight.shape[1])
        model.get_parameter("trunk.final_norm.weight").mul_(2)
    out = tmp_path_factory.mktemp("changed") / "model"
    save_model(model, tokenizer, out, Lineage("model"))
    return out


def test_each_matrix_has_the_norms_of_numpy(published_decoder, changed):
    found = compare_checkpoints(published_decoder, changed)
    row = next(row for row in found.matrices if row.name == CHANGED)
    a, b = (
        load_model(path)[0].get_parameter(CHANGED).detach().double().numpy()
        for path in (published_decoder, changed)
    )
    assert row.relative_norm == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-9)
    assert row.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-9)
    values = np.linalg.svd(b - a, compute_uv=False)
    np.testing.assert_allclose(row.singular_values[:2], values[:2], rtol=1e-6)
    assert row.effective_rank == pytest.approx(2, abs=0.3)
    assert (row.layer, row.matrix) == ("1", "attention.query")


def test_only_what_changed_differs(published_decoder, changed):
    found = compare_checkpoints(published_decoder, changed)
    names = {row.name for row in found.matrices if row.difference_norm}
    assert names == {CHANGED, "trunk.final_norm.weight"}
    layers = {layer.layer: layer for layer in found.layers}
    assert layers["0"].relative_norm == layers["0"].n_changed == 0
    assert layers["0"].cosine == pytest.approx(1)
    assert layers[OUTSIDE].n_changed == 32  # the final norm
    norm = next(row for row in found.matrices if row.name == "trunk.final_norm.weight")
    assert norm.relative_norm == pytest.approx(1)
    assert sum(layer.n_parameters for layer in found.layers) == sum(
        p.numel() for p in load_model(changed)[0].parameters()
    )


def test_a_checkpoint_does_not_differ_from_itself(published_decoder):
    found = compare_checkpoints(published_decoder, published_decoder)
    assert not any(row.difference_norm or row.effective_rank for row in found.matrices)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_changes_its_matrices_by_its_rank(published_decoder, tmp_path, kind):
    model, _ = load_model(published_decoder)
    config = LoraConfig(rank=2, alpha=4.0, targets=("query", "output"), dora=kind == "dora")
    adapter = make_lora(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapter.parameters().items():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.05)
    attach(model, adapter)
    folder = tmp_path / "adapter"
    save_adapter(model, adapter, published_decoder, folder, Lineage("adapter"), False)
    found = compare_checkpoints(folder)
    touched = {row.matrix for row in found.matrices if row.difference_norm}
    assert touched == {"attention.query", "attention.output"}
    for row in found.matrices:
        if row.difference_norm and kind == "lora":
            assert row.effective_rank <= 2 + 1e-6
            name = row.name.removesuffix(".weight")
            delta = adapter.wrappers[name].delta().numpy()
            assert row.difference_norm == pytest.approx(np.linalg.norm(delta), rel=1e-6)


def test_models_of_different_shapes_are_refused(published_decoder, published_encoder, tmp_path):
    from transformers import AutoConfig, LlamaForCausalLM

    with pytest.raises(UserError, match=r"models of different shapes: .* are in one of them only"):
        compare_checkpoints(published_decoder, published_encoder)
    config = AutoConfig.from_pretrained(published_decoder)
    config.intermediate_size = 48
    LlamaForCausalLM(config).save_pretrained(tmp_path / "narrow")
    with pytest.raises(UserError, match=r"is 64 x 32 in one and 48 x 32 in the other"):
        compare_checkpoints(published_decoder, tmp_path / "narrow")
    with pytest.raises(UserError, match="a difference is between two"):
        compare_checkpoints(published_decoder)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6)])
def test_singular_values_are_those_of_a_decomposition(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(singular_values(matrix), torch.linalg.svdvals(matrix))


def test_the_effective_rank_counts_equal_directions():
    assert effective_rank(torch.tensor([3.0, 3.0, 3.0, 0.0])) == pytest.approx(3)
    assert effective_rank(torch.tensor([1.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(3)) == 0


def test_names_are_split_into_layer_and_matrix():
    assert layer_of("trunk.encoder.blocks.12.feed_forward.up.weight") == ("encoder 12", "feed_forward.up")
    assert layer_of("trunk.token_embedding.weight") == (OUTSIDE, "token_embedding")
    assert layer_of("lm_head.bias") == (OUTSIDE, "lm_head.bias")
