"""Tuning the real 135M model: three steps of full tuning, of LoRA and of DPO, and a merge, against transformers, peft and
trl on the same weights, rows and optimizer.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.real_models.peers import N_STEPS, packed_losses
from parakit.alignment.preferences.dpo import PreferenceObjective, reference_log_probs
from parakit.checkpoints import load_model
from parakit.checkpoints.adapters.folder import save_adapter
from parakit.common import Lineage
from parakit.compression.merging import merge_adapter_folder
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.preferences import Ranking
from parakit.model.adapters import LoraConfig, attach, make_lora
from parakit.model.layers.masks import supports_prefix_tree
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.preferences.encoding import encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.tokens.shards import TokenShards, write_shards
from parakit.training.config import ExampleTrainingConfig, TrainingPlan, resolve_examples
from parakit.training.objectives import next_token
from parakit.training.trainer import Trainer
from tests.checkpoints.conformance import tensors_of

peft = pytest.importorskip("peft")
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]

SEQ_LEN, N_ROWS, TOLERANCE = 128, 2, 1e-4
FULL_RATE, LORA_RATE, DPO_RATE, KL_COEF = 2e-5, 2e-4, 5e-6, 0.1
LORA = LoraConfig(rank=4, alpha=8.0)


def plan_of(learning_rate: float, n_rows: int = N_ROWS) -> TrainingPlan:
    """AdamW at a constant rate, in float32, one row a forward pass."""
    config = ExampleTrainingConfig.parse({
        **{"batch_examples": n_rows, "micro_batch_size": 1, "max_steps": N_STEPS, "precision": "float32"},
        **{"optimizer": "adamw", "learning_rate": learning_rate, "adam_betas": (0.9, 0.999)},
        **{"schedule": "constant", "warmup_steps": 0, "compile": "off", "device": "cpu"},
    })  # fmt: skip
    return resolve_examples(
        config, learning_rate=1, embedding_learning_rate=1, max_seq_len=SEQ_LEN, n_train_examples=n_rows
    )


@pytest.fixture(scope="module")
def source(imported_smollm2: Path, instructions: list[dict[str, str]], tmp_path_factory) -> BatchSource:
    """Rows of whole conversations, several in a row."""
    _, tokenizer = load_model(imported_smollm2)
    assert tokenizer is not None
    conversations = [
        Conversation([Message("user", row["instruction"]), Message("assistant", row["output"])])
        for row in instructions[:40]
    ]
    short = [one for one in conversations if len(compile_chat(tokenizer, one).token_ids) <= SEQ_LEN]
    shards = write_shards({"train": short[:12]}, tokenizer, tmp_path_factory.mktemp("rows") / "shards")
    return BatchSource(TokenShards.open(shards, "train"), SEQ_LEN, 0, "pack")


def losses_of(trainer: Trainer) -> list[float]:
    return [record.loss for record in trainer.steps()]


def peer_losses(model: Any, source: BatchSource, plan: TrainingPlan) -> list[float]:
    """The same steps by transformers' model and torch's AdamW."""
    return packed_losses(
        model, lambda step: source.rows(plan.rows_before(step), plan.rows_at(step)), plan.learning_rate
    )


def test_full_tuning_has_the_losses_of_transformers(
    imported_smollm2: Path, peer_smollm2, source: BatchSource
) -> None:
    plan = plan_of(FULL_RATE)
    expected = peer_losses(peer_smollm2()[0].train(), source, plan)
    model, _ = load_model(imported_smollm2)
    found = losses_of(Trainer(model, source, next_token, plan, folder=None))
    assert np.abs(np.subtract(found, expected)).max() <= TOLERANCE
    assert len(set(found)) == N_STEPS


def test_lora_has_the_losses_of_peft_and_merges_as_it_does(
    imported_smollm2: Path, peer_smollm2, source: BatchSource, tmp_path: Path
) -> None:
    plan = plan_of(LORA_RATE)
    model, _ = load_model(imported_smollm2)
    adapter = make_lora(model, LORA)
    attach(model, adapter)
    start = save_adapter(model, adapter, imported_smollm2, tmp_path / "start", Lineage("adapter"))
    found = losses_of(Trainer(model, source, next_token, plan, folder=None))
    tuned = save_adapter(model, adapter, imported_smollm2, tmp_path / "tuned", Lineage("adapter"))
    peer = peer_smollm2()[0]
    expected = peer_losses(
        peft.PeftModel.from_pretrained(peer, start, is_trainable=True).train(), source, plan
    )
    assert np.abs(np.subtract(found, expected)).max() <= TOLERANCE
    merge_adapter_folder(tuned, tmp_path / "merged")
    merged = peft.PeftModel.from_pretrained(peer_smollm2()[0], tuned).merge_and_unload().state_dict()
    for name, tensor in tensors_of(tmp_path / "merged").items():
        assert (tensor - merged[name]).abs().max() <= 1e-6, name


@pytest.fixture(scope="module")
def pairs(imported_smollm2: Path, instructions: list[dict[str, str]]) -> list[Ranking]:
    """Three short pairs."""
    rows = sorted(instructions, key=lambda row: len(row["chosen"]) + len(row["instruction"]))
    return [
        Ranking((Message("user", row["instruction"]),), (row["chosen"], row["rejected"]))
        for row in islice(rows, 3)
    ]


def test_dpo_has_the_losses_of_trl(
    imported_smollm2: Path, peer_smollm2, pairs: list[Ranking], tmp_path: Path
) -> None:
    """Every step reads all pairs, so that no order can differ."""
    model, tokenizer = load_model(imported_smollm2)
    assert tokenizer is not None
    rows = PreferenceSource(
        encode_rankings(tokenizer, pairs, SEQ_LEN),
        0,
        n_rows_hint=len(pairs),
        share_prompts=supports_prefix_tree(model.config),
    )
    rows.reference = reference_log_probs(model, rows)
    objective = PreferenceObjective("dpo", KL_COEF)
    found = losses_of(Trainer(model, rows, objective, plan_of(DPO_RATE, len(pairs)), folder=None))
    peer, peer_tokenizer = peer_smollm2()
    prompts = [
        peer_tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in one.prompt],
            add_generation_prompt=True,
            tokenize=False,
        )
        for one in pairs
    ]
    data = [
        {"prompt": prompt, "chosen": one.completions[0], "rejected": one.completions[1]}
        for prompt, one in zip(prompts, pairs, strict=True)
    ]
    config = trl.DPOConfig(
        output_dir=str(tmp_path),
        beta=KL_COEF,
        precompute_ref_log_probs=True,
        max_length=None,
        learning_rate=DPO_RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        max_grad_norm=1.0,
        adam_beta2=0.999,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        max_steps=N_STEPS,
        per_device_train_batch_size=len(pairs),
    )
    trainer = trl.DPOTrainer(
        peer, args=config, train_dataset=datasets.Dataset.from_list(data), processing_class=peer_tokenizer
    )
    trainer.train()
    expected = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(expected) == N_STEPS
    assert np.abs(np.subtract(found, expected)).max() <= TOLERANCE
    assert found[0] == pytest.approx(np.log(2), abs=1e-5)
    assert found[-1] < found[0]
