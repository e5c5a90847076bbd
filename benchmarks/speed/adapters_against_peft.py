"""LoRA here and in the peft library: the same base, the same factors, the same rows; how fast, and whether to the same
loss.

Both sides begin with one saved adapter, see the same windows of text under plain causal attention, and step with AdamW
on one thread, each in its own way: here the training loop's objective and optimizer, there transformers' logits,
torch's cross-entropy and torch's fused AdamW. Rounds of steps alternate between them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import paired
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.checkpoints import load_model
from parakit.checkpoints.adapters import save_adapter
from parakit.common.artifacts import Lineage
from parakit.common.seeds import seed_everything
from parakit.model.adapters import LoraConfig, attach, make_lora
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.shards import TokenShards
from parakit.training.micro_batches import MicroBatch
from parakit.training.objectives import next_token
from parakit.training.optimizers.adamw import AdamW

LEARNING_RATE, BETAS, ROWS = 0.004, (0.9, 0.95), 8


@benchmark("adapters_against_peft", {
    "ratio.seconds_per_step": ("<= 1", "LoRA: seconds per step over peft's"),
    "largest_difference_of_losses": ("<= 0.001", "LoRA: largest difference of the losses to peft's"),
    "last_loss": (NO_TARGET, "LoRA: last loss, nats per token"),
})  # fmt: skip
def adapters_against_peft(*, build: Path, rank: int = 8, steps: int = 15, rounds: int = 5) -> Figures:
    """`build` is a build with the folders pretrain and shards; a round has `steps` steps."""
    torch.set_num_threads(1)
    base, shards = build / "pretrain", TokenShards.open(build / "shards", "train")
    with tempfile.TemporaryDirectory() as folder:
        model, _ = load_model(base, dtype="float32")
        seed_everything(0)
        adapter = make_lora(model, LoraConfig(rank=rank))
        attach(model, adapter)
        saved = save_adapter(model, adapter, base, Path(folder) / "adapter", Lineage("adapter"))
        peft_model = _peft(base, saved)
    rows = BatchSource(shards, model.config.max_seq_len, 0)
    parakit, peer = _Parakit(model, rows, steps), _Peft(peft_model, rows, steps)
    figures: Figures = paired(parakit.round, peer.round, rounds)
    differences = [abs(a - b) for a, b in zip(parakit.losses, peer.losses, strict=True)]
    figures |= {"largest_difference_of_losses": max(differences), "last_loss": parakit.losses[-1]}
    figures["trained_parameters"] = sum(p.numel() for p in parakit.parameters)
    return figures


class _Side:
    """A model that trains, round after round, on rows that both sides see."""

    optimizer: Any

    def __init__(self, model: Any, rows: BatchSource, steps: int) -> None:
        self.model, self.rows, self.steps = model.train(), rows, steps
        self.named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in self.named]
        self.losses: list[float] = []

    def loss(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Per token."""
        raise AssertionError("each side has its own")

    def round(self) -> dict[str, float]:
        """Some steps, and how long one took."""
        started = time.perf_counter()
        for _ in range(self.steps):
            batch = self.rows.rows(len(self.losses) * ROWS, ROWS)
            loss = self.loss(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.target_ids))
            loss.backward()
            self.optimizer.step()
            for parameter in self.parameters:
                parameter.grad = None
            self.losses.append(float(loss.detach()))
        return {"seconds_per_step": (time.perf_counter() - started) / self.steps}


class _Parakit(_Side):
    def __init__(self, model: Any, rows: BatchSource, steps: int) -> None:
        super().__init__(model, rows, steps)
        self.optimizer = AdamW(self.named, LEARNING_RATE, BETAS)

    def loss(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        n = input_ids.numel()
        return next_token(self.model, MicroBatch(input_ids, target_ids, None, None, None, n)) / n


class _Peft(_Side):
    def __init__(self, model: Any, rows: BatchSource, steps: int) -> None:
        super().__init__(model, rows, steps)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=LEARNING_RATE, betas=BETAS, weight_decay=0.0, fused=True
        )

    def loss(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        logits = self.model(input_ids=input_ids, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1), target_ids.flatten())


def _peft(base: Path, adapter: Path) -> Any:
    """transformers' model of the base with the same adapter, trainable."""
    import peft
    import transformers

    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(plain, adapter, is_trainable=True)
