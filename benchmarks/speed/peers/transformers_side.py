"""transformers' side of the speed comparison, as its documentation shows it: `generate`, `labels`, fused
AdamW, SDPA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.peers import workload


def make(folder: Path, size: str) -> dict[str, Any]:
    """Write a randomly initialised model that both sides then load."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    width, layers, heads, kv_heads, head_width, inner = workload.SIZES[size]
    config = Qwen3Config(
        vocab_size=workload.VOCAB_SIZE,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_width,
        max_position_embeddings=workload.MAX_SEQ_LEN,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    return {"n_params": sum(parameter.numel() for parameter in model.parameters())}


def _load(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def _generator(folder: Path) -> Any:
    import torch

    model = _load(folder).eval()

    def generate(prompts: list[list[int]], n_new: int) -> list[list[int]]:
        input_ids = torch.tensor(prompts)
        with torch.inference_mode():
            out = model.generate(
                input_ids=input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=n_new,
                do_sample=False,
                pad_token_id=0,
            )
        return out[:, input_ids.shape[1] :].tolist()

    return generate


def train(folder: Path, size: str) -> dict[str, Any]:
    """Optimizer steps on one batch."""
    import torch

    model = _load(folder).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=workload.LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    ids = torch.tensor(workload.rows(workload.TRAIN_ROWS, workload.TRAIN_SEQ_LEN + 1))

    def step() -> float:
        # labels given already shifted, so that both sides predict the same tokens
        loss = model(input_ids=ids[:, :-1], labels=ids[:, :-1], shift_labels=ids[:, 1:].contiguous()).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return workload.timed_training(step)


def generate_1(folder: Path, size: str) -> dict[str, Any]:
    """One prompt."""
    return workload.timed_generation(_generator(folder), 1)


def generate_8(folder: Path, size: str) -> dict[str, Any]:
    """Eight prompts at once."""
    return workload.timed_generation(_generator(folder), 8)


def start(folder: Path, size: str) -> dict[str, Any]:
    """Load and say one token; timed from outside."""
    return {"token_ids": _generator(folder)(workload.rows(1, workload.PROMPT_TOKENS), 1)}


if __name__ == "__main__":
    functions = (make, train, generate_1, generate_8, start)
    workload.run_side(dict(zip(workload.TASKS, functions, strict=True)))
