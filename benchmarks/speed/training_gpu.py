"""Training on a GPU: 124M parameters on rows of 1,024 tokens in bfloat16, compiled, against the card's matrix products.

The rows are drawn from a fixed random chain, in which a token has eight successors: no data is needed, and the loss that can
be reached is known. Without a GPU, `--device cpu --shape tiny` tries the program.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np

from benchmarks.registry import NO_TARGET, Figures, benchmark

Shape = Literal["124M", "tiny"]
SHAPES: dict[Shape, dict[str, int]] = {
    "124M": {
        "d_model": 768,
        "n_layers": 12,
        "n_heads": 12,
        "n_kv_heads": 12,
        "d_ff": 2048,
        "vocab_size": 50_304,
    },
    "tiny": {"d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "d_ff": 64, "vocab_size": 128},
}
BATCHES: dict[Shape, tuple[int, int]] = {"124M": (32, 1024), "tiny": (4, 32)}  # rows, tokens in a row
N_STATES, N_SUCCESSORS = 1024, 8  # of the chain
LEARNING_RATE, NEAR = 6e-4, 0.2  # nats above the chain's entropy


@benchmark("training_gpu", {
    "share_of_peak": (">= 0.5", "training 124M parameters in bf16 on a GPU: share of the measured matrix-product rate"),
    "tokens_per_second": (NO_TARGET, "training 124M parameters in bf16 on a GPU: tokens per second"),
    "peak_memory_mib": (NO_TARGET, "training 124M parameters in bf16 on a GPU: peak memory of the card in MiB"),
    "seconds_to_loss": (NO_TARGET, "seconds to within 0.2 nats of what can be reached, compiling included"),
    "first_step_seconds": (NO_TARGET, "seconds of the first step, compiling included"),
})  # fmt: skip
def training_gpu(
    *,
    shape: Shape = "124M",
    device: str = "cuda",
    optimizer: Literal["adamw", "muon"] = "adamw",
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    compile: Literal["on", "off"] = "on",
    n_steps: int = 300,
    n_measured: int = 50,
) -> Figures:
    """`n_steps` steps; the last `n_measured` are timed."""
    import torch

    from parakit.training.objectives import next_token
    from parakit.training.precision import Precision
    from parakit.training.throughput import measure_peak_flops
    from parakit.training.trainer import Trainer

    target = torch.device(device)
    model = _random_model(shape, target)
    n_rows, seq_len = BATCHES[shape]
    chain = Chain(min(N_STATES, SHAPES[shape]["vocab_size"]), n_rows, seq_len)
    plan = _plan(n_rows, seq_len, n_steps).replace(
        optimizer=optimizer, precision=precision, compile=compile, device=device
    )
    if optimizer == "muon":
        plan = plan.replace(learning_rate=0.02, embedding_learning_rate=0.004)
    started, ended, reached = time.perf_counter(), [], None
    for record in Trainer(model, chain, next_token, plan, folder=None).steps():
        ended.append(time.perf_counter())
        if reached is None and record.loss < chain.entropy + NEAR:
            reached = ended[-1] - started
    n_measured = min(n_measured, n_steps - 1)
    rate = n_measured * n_rows * seq_len / (ended[-1] - ended[-1 - n_measured])
    peak = measure_peak_flops(target.type, Precision(precision, target).dtype)
    figures: Figures = {
        "tokens_per_second": rate,
        "share_of_peak": rate * model.config.flops_per_token(seq_len) / peak,
        "peak_flops": peak,
        "first_step_seconds": ended[0] - started,
        "last_loss": record.loss,
        "entropy": chain.entropy,
    }
    if reached is not None:
        figures["seconds_to_loss"] = reached
    if target.type == "cuda":
        figures["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        figures["card"] = torch.cuda.get_device_name()
    return figures


class Chain:
    """Rows of a Markov chain with equal frequencies: each state goes to eight others, with probabilities that fall by half."""

    def __init__(self, n_states: int, n_rows: int, seq_len: int) -> None:
        self.seq_len, self.rows_per_epoch = seq_len, float(2**31)
        generator = np.random.default_rng(0)
        self.successors = np.stack([generator.permutation(n_states) for _ in range(N_SUCCESSORS)], 1)
        weights = 0.5 ** np.arange(N_SUCCESSORS)
        self.probabilities = weights / weights.sum()
        self.entropy = float(-(self.probabilities * np.log(self.probabilities)).sum())

    def rows(self, start_row: int, n_rows: int, /) -> Any:
        """A batch, a pure function of the row numbers."""
        from parakit.tokens.batches.batch import Batch

        generator = np.random.default_rng([1, start_row])
        choices = generator.choice(N_SUCCESSORS, (n_rows, self.seq_len), p=self.probabilities)
        ids = np.empty((n_rows, self.seq_len + 1), np.int64)
        ids[:, 0] = generator.integers(0, len(self.successors), n_rows)
        for i in range(self.seq_len):
            ids[:, i + 1] = self.successors[ids[:, i], choices[:, i]]
        shape = (n_rows, self.seq_len)
        positions = np.broadcast_to(np.arange(self.seq_len), shape)
        everything, document = np.ones(shape, bool), np.zeros(shape, np.int32)
        targets = np.ascontiguousarray(ids[:, 1:])
        return Batch(ids[:, :-1], targets, everything, document, positions, targets.size, True)


def _random_model(shape: Shape, device: Any) -> Any:
    import torch

    from parakit.model import DecoderConfig, LanguageModel

    sizes = SHAPES[shape]
    torch.manual_seed(0)
    head_dim = sizes["d_model"] // sizes["n_heads"]
    return LanguageModel(DecoderConfig(**sizes, head_dim=head_dim, max_seq_len=BATCHES[shape][1])).to(device)


def _plan(n_rows: int, seq_len: int, n_steps: int) -> Any:
    from benchmarks.speed.peers.parakit_side import adamw_plan

    return adamw_plan(seq_len, n_rows, LEARNING_RATE).replace(
        max_steps=n_steps, warmup_steps=min(20, n_steps // 2)
    )
