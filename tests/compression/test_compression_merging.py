"""Merging: exact once, refused twice, and refused where rounding would take the tune away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.adapters import save_adapter
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.compression.merging import merge_adapter, merge_adapter_folder, merge_models
from parakit.compression.merging.config import LinearMerge
from parakit.model import LanguageModel
from parakit.model.adapters import LoraConfig, PromptConfig, attach, make_lora, make_prompt
from tests.training.tiny_runs import tiny_model

IDS = torch.tensor([[4, 9, 7, 22, 5, 1], [3, 3, 8, 30, 2, 6]])
TABLES = ("query", "token_embedding", "lm_head")
NORMS = ("trunk.blocks.0.attention_norm", "trunk.blocks.0.attention.query_norm", "trunk.final_norm")


def adapted(size: float = 0.2, config: LoraConfig | None = None, **changes: Any) -> LanguageModel:
    model = tiny_model(**changes).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    attach(model, make_lora(model, config or LoraConfig(rank=2)))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.endswith("magnitude"):
            nn.init.normal_(parameter, std=size)
    return model


def folders(root: Path, size: float = 0.2) -> tuple[Path, Path, Tensor]:
    """A base, an adapter, and their logits."""
    model = adapted(size)
    from parakit.model.adapters import without_adapter
    from parakit.model.adapters.attachment import Adapter, wrappers_of

    adapter = Adapter(LoraConfig(rank=2), dict(wrappers_of(model)))
    with without_adapter(model):
        base = save_model(model, None, root / "base", Lineage("model"))
    saved = save_adapter(model, adapter, base, root / "adapter", Lineage("adapter", {"chat": True}, [base]))
    return base, saved, model(IDS)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(rank=2),
        LoraConfig(rank=2, dora=True),
        LoraConfig(rank=2, init="pissa"),
        LoraConfig(rank=3, targets=TABLES),
        LoraConfig(rank=2, token_ids=(5, 9)),
        LoraConfig(rank=3, targets=("lm_head",)),
        LoraConfig(rank=2, fully_trained=NORMS),
        LoraConfig(rank=2, fully_trained=("lm_head", "trunk.final_norm")),
    ],
    ids=str,
)
@pytest.mark.parametrize("tied", [True, False])
def test_merged_is_unmerged(config, tied):
    model = adapted(config=config, tie_embeddings=tied)
    wanted = model(IDS)
    merged = merge_adapter(model)
    assert (merged.model(IDS) - wanted).abs().max() < 1e-5
    assert merged.untied is (tied and "lm_head" in ((config.targets or ()) + config.fully_trained))
    assert merged.rounding_loss < 1e-6
    with pytest.raises(UserError, match="has no adapter"):
        merge_adapter(merged.model)


def test_a_folder_is_merged_once(tmp_path):
    _, adapter, wanted = folders(tmp_path)
    merge_adapter_folder(adapter, tmp_path / "merged")
    model, _ = load_model(tmp_path / "merged")
    assert (model(IDS) - wanted).abs().max() < 1e-5
    for again in (tmp_path / "merged",):
        with pytest.raises(UserError, match="already"):
            merge_adapter_folder(adapter, tmp_path / "twice", base=again)
    with pytest.raises(UserError, match="is not an adapter"):
        merge_adapter_folder(tmp_path / "merged", tmp_path / "twice")
    assert not (tmp_path / "twice").exists()
    from parakit.inference.folder_settings import is_chat_tuned

    assert is_chat_tuned(tmp_path / "merged")


def test_a_tune_that_rounding_would_take_away_is_refused(tmp_path):
    _, adapter, _ = folders(tmp_path, size=0.02)
    for dtype in ("bfloat16", "float16"):
        model = load_model(adapter)[0]
        lost = merge_adapter(model, getattr(torch, dtype)).rounding_loss
        assert (lost > 0.02) is (dtype == "bfloat16")
    with pytest.raises(UserError, match=r"rounding loses .*%"):
        merge_adapter_folder(adapter, tmp_path / "merged", dtype="bfloat16")
    assert not (tmp_path / "merged").exists()
    merge_adapter_folder(adapter, tmp_path / "merged", dtype="bfloat16", max_rounding_loss=1.0)


def test_what_rounding_takes_is_measured_as_it_is():
    model = adapted(0.05)
    before = {n: p.detach().double() for n, p in model.named_parameters() if n.endswith("base.weight")}
    exact = {f"{place}.base.weight": w.merged_weight() for place, w in _wrappers(model)}
    lost = merge_adapter(model, torch.bfloat16).rounding_loss
    off = sum(float((w.bfloat16().double() - w).square().sum()) for w in exact.values())
    update = sum(float((exact[n] - before[n]).square().sum()) for n in exact)
    assert lost == pytest.approx((off / update) ** 0.5)


def _wrappers(model: LanguageModel) -> Any:
    from parakit.model.adapters.attachment import wrappers_of

    return list(wrappers_of(model))


def test_a_prompt_is_no_weight():
    model = tiny_model()
    attach(model, make_prompt(model, PromptConfig(n_prompt_tokens=2)))
    with pytest.raises(UserError, match="cannot be merged into weights"):
        merge_adapter(model)


def test_models_of_one_shape_become_their_mean(tmp_path):
    paths = []
    for seed in range(2):
        model = tiny_model(seed)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        paths.append(save_model(model, None, tmp_path / str(seed), Lineage("model")))
    merge_models(paths, tmp_path / "mean", LinearMerge(weights=(1, 3)))
    one, two, mean = (dict(load_model(p)[0].named_parameters()) for p in (*paths, tmp_path / "mean"))
    for name in mean:
        wanted = 0.25 * one[name].double() + 0.75 * two[name].double()
        torch.testing.assert_close(mean[name].double(), wanted, rtol=0, atol=1e-6)
    save_model(tiny_model(0, d_ff=20), None, tmp_path / "other", Lineage("model"))
    for sources, weights, told in (
        ([paths[0], tmp_path / "other"], (), "shapes: trunk.blocks.0.feed_forward.gate.weight"),
        (paths, (1, 2, 3), "3 weights for 2 models"),
        (paths, (1, -1), "sum to"),
        (paths[:1], (), "two or more"),
    ):
        with pytest.raises(UserError, match=told):
            merge_models(sources, tmp_path / "no", LinearMerge(weights=weights))
