"""A merge is compared with base and adapter on prompts, and refused where they differ: nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.adapters import save_adapter
from parakit.cli.main import main
from parakit.common.artifacts import Lineage, open_artifact
from parakit.common.errors import UserError
from parakit.compression.merge_check import merge_prompts
from parakit.compression.merging import merge_adapter, merge_adapter_folder
from parakit.compression.merging.adapters import MergeResult
from parakit.inference.generation.text import prompt_ids
from parakit.model.adapters import LoraConfig, attach, make_lora
from tests.alignment.rl.tiny_policy import tiny_policy, tiny_tokenizer

PROMPTS = ("who sings?", "the small bird")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    model, tokenizer = tiny_policy(), tiny_tokenizer()
    base = save_model(model, tokenizer, tmp_path / "base", Lineage("model"))
    lora = make_lora(model, LoraConfig(rank=2))
    attach(model, lora)
    for parameter in lora.parameters().values():
        nn.init.normal_(parameter, std=0.2)
    return save_adapter(model, lora, base, tmp_path / "adapter", Lineage("adapter", {"chat": False}, [base]))


def by_hand(adapter: Path, merged: Path) -> float:
    """The largest difference of plain forward passes."""
    one, tokenizer = load_model(adapter)
    other, _ = load_model(merged, dtype="float32")
    assert tokenizer is not None
    with torch.no_grad():
        ids = [torch.tensor([prompt_ids(tokenizer, prompt)]) for prompt in PROMPTS]
        return max(float((one(row) - other(row)).abs().max()) for row in ids)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_difference_is_that_of_plain_forward_passes(adapter, tmp_path, dtype) -> None:
    merged = merge_adapter_folder(
        adapter, tmp_path / "merged", dtype=dtype, max_rounding_loss=1.0, prompts=PROMPTS
    )
    found = merged.logit_difference
    assert found is not None
    assert found.n_prompts == 2
    assert found.largest == pytest.approx(by_hand(adapter, tmp_path / "merged"), abs=1e-6)
    assert (found.largest < 1e-4) == (dtype == "float32")
    assert next(merged.model.parameters()).dtype == getattr(torch, dtype)
    recorded = open_artifact(tmp_path / "merged").lineage["result"]["logit_difference"]
    assert recorded["largest"] == found.largest
    assert recorded["prompt"] in PROMPTS


def test_a_merge_that_changes_the_model_is_refused_and_nothing_is_written(
    adapter, tmp_path, monkeypatch
) -> None:

    def damaged(*given: object) -> MergeResult:
        result = merge_adapter(*given)
        with torch.no_grad():
            result.model.get_parameter("trunk.blocks.0.feed_forward.down.weight").mul_(1.1)
        return result

    monkeypatch.setattr("parakit.compression.merging.adapters.merge_adapter", damaged)
    with pytest.raises(UserError, match=r"logits after .* differ by .* \(limit 0.001\)"):
        merge_adapter_folder(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    accepted = merge_adapter_folder(adapter, tmp_path / "merged", max_logit_difference=100.0)
    assert accepted.logit_difference is not None
    assert accepted.logit_difference.largest > 1e-3


def test_the_command_compares_the_users_prompts(adapter, tmp_path, capsys) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("is it red?\n\nwho?\n")
    command = ["merge", str(adapter), "--output", str(tmp_path / "merged"), "--prompts", str(file), "--json"]
    assert main([*command, "--text", *PROMPTS]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["logit_difference"]["n_prompts"] == 4
    assert "logits differ by" in printed.err
    assert (
        main(["merge", str(adapter), "--output", str(tmp_path / "x"), "--prompts", str(tmp_path / "none")])
        != 0
    )
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_prompts_are_built_in_unless_given() -> None:
    assert len(merge_prompts((), None)) >= 5
    assert merge_prompts(("a",), None) == ("a",)
    with pytest.raises(UserError, match="33 prompts"):
        merge_prompts(("a",) * 33, None)
