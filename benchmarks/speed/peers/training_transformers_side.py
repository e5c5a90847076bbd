"""transformers' side of `training_speed`: `Trainer` as its documentation shows it. `make SIZE FOLDER` writes the model that
all sides load.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.peers import training_workload as work


def make(size: work.Size, folder: Path) -> None:
    """Write a randomly initialised model."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=size.vocab_size,
        hidden_size=size.d_model,
        intermediate_size=size.d_ff,
        num_hidden_layers=size.n_layers,
        num_attention_heads=size.n_heads,
        num_key_value_heads=size.n_kv_heads,
        head_dim=size.head_dim,
        max_position_embeddings=size.seq_len,
        rope_theta=work.ROPE_THETA,
        rms_norm_eps=work.NORM_EPS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == size.n_params
    model.save_pretrained(folder)


def train(size: work.Size, folder: Path, clock: work.StepClock) -> float:
    """Optimizer steps; the last loss."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback

    rows = torch.from_numpy(work.rows(size))
    losses: list[float] = []

    class Rows(torch.utils.data.Dataset[Any]):
        """Whole rows; labels are given already shifted, so that all sides predict the same tokens."""

        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return {
                "input_ids": rows[index, :-1],
                "labels": rows[index, :-1],
                "shift_labels": rows[index, 1:],
            }

    class InOrder(Trainer):
        """Without shuffling."""

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    class Marks(TrainerCallback):
        """The clock, and the losses."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.mark()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.mark()

        def on_log(
            self, _arguments: Any, _state: Any, _control: Any, logs: dict[str, float], **__: Any
        ) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as place:
        InOrder(model=model, args=_arguments(size, place), train_dataset=Rows(), callbacks=[Marks()]).train()
    return losses[-1]


def _arguments(size: work.Size, place: str) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=place,
        max_steps=size.n_steps,
        per_device_train_batch_size=size.n_rows,
        learning_rate=work.LEARNING_RATE,
        adam_beta1=work.BETAS[0],
        adam_beta2=work.BETAS[1],
        weight_decay=0.0,
        max_grad_norm=work.GRAD_CLIP,
        lr_scheduler_type="constant",
        warmup_steps=0,
        optim="adamw_torch_fused",
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(work.SIZES[sys.argv[2]], Path(sys.argv[3]))
    else:
        work.run_side(train)
