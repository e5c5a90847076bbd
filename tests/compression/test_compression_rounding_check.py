"""What storing a model in another dtype does to its logits is measured and printed, and a large change is a warning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.cli.main import main
from parakit.common.artifacts import Lineage
from parakit.compression.merge_check import merge_prompts
from parakit.compression.rounding_check import measure_rounding
from parakit.inference.generation.text import prompt_ids
from tests.alignment.rl.tiny_policy import tiny_policy, tiny_tokenizer


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return save_model(tiny_policy(), tiny_tokenizer(), tmp_path / "model", Lineage("model", {"chat": False}))


@pytest.mark.parametrize("command", ["export", "import"])
def test_a_rounded_copy_is_measured_by_the_command(
    command: str, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(model_dir), "--output", str(tmp_path / "copy"), "--dtype", "bfloat16"]) == 0
    assert "stored in bfloat16: logits differ by" in capsys.readouterr().err
    found = measure_rounding(model_dir, tmp_path / "copy", "bfloat16")
    assert found is not None
    one, tokenizer = load_model(model_dir)
    other, _ = load_model(tmp_path / "copy", dtype="float32")
    assert tokenizer is not None
    with torch.no_grad():
        rows = [
            torch.tensor([prompt_ids(tokenizer, text)[-one.config.max_seq_len :]])
            for text in merge_prompts((), None)
        ]
        by_hand = max(float((one(row) - other(row)).abs().max()) for row in rows)
    assert 0 < found.largest == pytest.approx(by_hand, rel=1e-4)


def test_a_copy_that_changes_the_answers_is_a_warning(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = load_model(model_dir)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    save_model(model, tokenizer, tmp_path / "changed", Lineage("model"))
    measure_rounding(model_dir, tmp_path / "changed", "bfloat16")
    assert "answers may change" in capsys.readouterr().err
    measure_rounding(model_dir, model_dir, "float32")
    assert "answers may change" not in capsys.readouterr().err
