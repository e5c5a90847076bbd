"""litgpt's side of `training_speed`: `litgpt.pretrain`, which compiles the model, on rows of its own data module.

It initialises its weights itself, as its pre-training does: only the amount of work is the same, not the losses.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.peers import training_workload as work


def train(size: work.Size, folder: Path, clock: work.StepClock) -> float:
    """Optimizer steps; the last loss."""
    import torch
    from litgpt import pretrain  # type: ignore[import-not-found]
    from litgpt.args import EvalArgs  # type: ignore[import-not-found]
    from litgpt.data import DataModule  # type: ignore[import-not-found]

    rows = torch.from_numpy(work.rows(size))
    losses: list[float] = []

    class Marked(torch.utils.data.Dataset[Any]):
        """Whole rows; the first of a batch is when its step begins."""

        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> torch.Tensor:
            if index % size.n_rows == 0:
                clock.mark()
            return rows[index]

    class Rows(DataModule):
        """All rows for training; two for its check of the validation."""

        def connect(self, *_: Any, **__: Any) -> None:
            """Nothing depends on a tokenizer."""

        def train_dataloader(self) -> Any:
            """In order."""
            return torch.utils.data.DataLoader(Marked(), batch_size=size.n_rows)

        def val_dataloader(self) -> Any:
            """One batch, of the shape of the others."""
            first: Any = rows[: size.n_rows]
            return torch.utils.data.DataLoader(first, batch_size=size.n_rows)

    pretrain.RunningMean = _recording(pretrain.RunningMean, losses)
    pretrain.save_checkpoint = lambda *_, **__: None  # the end is no part of a step
    with tempfile.TemporaryDirectory() as place:
        pretrain.setup(
            "peer",
            model_config=_config(size),
            out_dir=Path(place),
            precision="32-true",
            data=Rows(),
            devices=1,
            logger_name="csv",
            optimizer={
                "class_path": "torch.optim.AdamW",
                "init_args": {"lr": work.LEARNING_RATE, "weight_decay": 0.0, "betas": work.BETAS},
            },
            train=_settings(size),
            eval=EvalArgs(interval=10**9, max_iters=1, final_validation=False),
        )
    if len(clock.marks) == size.n_steps:
        clock.mark()
    return losses[-1]


def _recording(kind: Any, losses: list[float]) -> Any:
    """A running mean that also records what it prints."""

    def compute(self: Any) -> Any:
        found = kind.compute(self)
        losses.append(float(found))
        return found

    return type("Recording", (kind,), {"compute": compute})


def _settings(size: work.Size) -> Any:
    from litgpt.args import TrainArgs

    return TrainArgs(
        save_interval=None,
        log_interval=1,
        global_batch_size=size.n_rows,
        micro_batch_size=size.n_rows,
        max_tokens=size.n_steps * size.n_rows * size.seq_len,
        max_norm=work.GRAD_CLIP,
        lr_warmup_steps=1,
        tie_embeddings=True,
    )


def _config(size: work.Size) -> Any:
    """The architecture, in litgpt's words."""
    from litgpt.config import Config  # type: ignore[import-not-found]

    return Config(
        name="peer",
        block_size=size.seq_len,
        vocab_size=size.vocab_size,
        padded_vocab_size=size.vocab_size,
        n_layer=size.n_layers,
        n_head=size.n_heads,
        n_query_groups=size.n_kv_heads,
        head_size=size.head_dim,
        n_embd=size.d_model,
        intermediate_size=size.d_ff,
        rotary_percentage=1.0,
        rope_base=int(work.ROPE_THETA),
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=work.NORM_EPS,
        norm_qk=True,
        mlp_class_name="LLaMAMLP",
    )


if __name__ == "__main__":
    work.run_side(train)
