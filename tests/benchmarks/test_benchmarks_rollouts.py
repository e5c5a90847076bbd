"""Both sides of `rollouts` complete the same prompts, at a tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.peers import rollout_side
from parakit.alignment.rl import batches, rollouts
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.inference.generation import decoding
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.training import train_tokenizer

REPLACED = (
    (rollouts, "generate_choices"),
    (rollouts, "draws_as_trained"),
    (rollouts, "can_fuse_log_probs"),
    (rollouts, "attends_by_segment"),
    (batches, "shared_lengths"),
    (decoding, "runs_on_engine"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("rollouts") / "model"
    tokenizer = train_tokenizer(iter(rollout_side.QUESTIONS), TokenizerConfig(vocab_size=300))
    model = LanguageModel(
        DecoderConfig(
            vocab_size=tokenizer.vocab_size,
            d_model=16,
            n_layers=2,
            n_heads=2,
            n_kv_heads=2,
            head_dim=8,
            d_ff=24,
            max_seq_len=192,
        )
    )
    save_model(model, tokenizer, made, Lineage("model"))
    return made


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_both_sides_take_steps_on_as_many_tokens(
    method: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {name: config.replace(max_new_tokens=4) for name, config in rollout_side.CONFIGS.items()}
    monkeypatch.setattr(rollout_side, "CONFIGS", small)
    monkeypatch.setattr(rollout_side, "N_PHASES", 2)
    found = []
    for side in ("engine", "before"):
        with monkeypatch.context() as patch:
            for module, name in REPLACED:  # restored behind the side
                patch.setattr(module, name, getattr(module, name))
            patch.setenv("PARAKIT_KERNELS", "on")
            found.append(rollout_side.main(side, method, folder, 1))
    assert found[0]["n_tokens"] == found[1]["n_tokens"] > 16
    for figures in found:
        assert 0 < figures["completions"] < figures["step"]
