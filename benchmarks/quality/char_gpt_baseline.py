"""The small published character-level GPT on tinyshakespeare, as a plain PyTorch program.

4 layers, 4 heads, width 128, context 64, 12 sequences a step, GELU, LayerNorm, learned positions, tied
embeddings; AdamW at 1e-3 (betas 0.9 and 0.99, weight decay 0.1 on matrices), 100 steps of warm-up, cosine
to 1e-4, 2,000 steps, no dropout. The last 10 % of the text is validation, all of it evaluated once, in
windows of 64 that do not overlap.

It is written to be no slower than it need be: fused AdamW, scaled_dot_product_attention, gradients set to
None, and no value read back inside the loop. `--compile` compiles the model; with an empty cache that
costs 30 to 45 s on two cores (5 to 15 s with a full one), so it is off by default: a fair comparison
takes the quicker of the two on the machine at hand. The last line printed is a JSON object. It uses
nothing of Parakit's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

STARTED = time.perf_counter()

import torch  # noqa: E402 (the import belongs to the time that is measured)
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

N_LAYERS, N_HEADS, D_MODEL, SEQ_LEN, SEQUENCES = 4, 4, 128, 64, 12
LEARNING_RATE, LAST_LEARNING_RATE, WARMUP_STEPS = 1e-3, 1e-4, 100


class Block(nn.Module):
    """Pre-norm attention and feed-forward. Legend: B sequences, T positions, D width, H heads."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(D_MODEL, bias=False)
        self.query_key_value = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.output = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.feed_forward_norm = nn.LayerNorm(D_MODEL, bias=False)
        self.up = nn.Linear(D_MODEL, 4 * D_MODEL, bias=False)
        self.down = nn.Linear(4 * D_MODEL, D_MODEL, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(B, T, 3, N_HEADS, D // N_HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, H, T, D/H) each
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x))))


class CharacterGPT(nn.Module):
    """The whole model; returns the summed cross-entropy in nats."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, D_MODEL)
        self.position_embedding = nn.Embedding(SEQ_LEN, D_MODEL)
        self.blocks = nn.ModuleList(Block() for _ in range(N_LAYERS))
        self.final_norm = nn.LayerNorm(D_MODEL, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                deep = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * N_LAYERS) if deep else 0.02)

    def forward(self, input_ids: torch.Tensor, target_ids: torch.Tensor) -> torch.Tensor:
        """(B, T) and (B, T) to a sum over B*T positions."""
        x = self.token_embedding(input_ids) + self.position_embedding.weight[: input_ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.final_norm(x), self.token_embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), target_ids.flatten(), reduction="sum")


def learning_rate(step: int, max_steps: int) -> float:
    """Linear warm-up, then cosine down to a tenth."""
    if step < WARMUP_STEPS:
        return LEARNING_RATE * (step + 1) / (WARMUP_STEPS + 1)
    share = (step - WARMUP_STEPS) / max(max_steps - WARMUP_STEPS, 1)
    return LAST_LEARNING_RATE + 0.5 * (LEARNING_RATE - LAST_LEARNING_RATE) * (1 + math.cos(math.pi * share))


def make_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """Fused AdamW; only matrices decay."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99), fused=True)


def train(model: nn.Module, text: torch.Tensor, max_steps: int, seed: int, compiled: bool) -> None:
    """The whole training run, in place."""
    optimizer = make_optimizer(model)
    generator = torch.Generator().manual_seed(seed)
    window = torch.arange(SEQ_LEN + 1)
    loss_of = torch.compile(model) if compiled else model
    for step in range(max_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, max_steps)
        starts = torch.randint(len(text) - SEQ_LEN, (SEQUENCES, 1), generator=generator)
        rows = text[starts + window]  # (B, T + 1)
        loss = loss_of(rows[:, :-1], rows[:, 1:]) / (SEQUENCES * SEQ_LEN)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def validation_loss(model: nn.Module, text: torch.Tensor) -> float:
    """Nats per character over every character but the first, in windows that do not overlap."""
    n_predicted = len(text) - 1
    whole = n_predicted // SEQ_LEN * SEQ_LEN
    total = 0.0
    rows = zip(
        text[:whole].view(-1, SEQ_LEN).split(256),
        text[1 : whole + 1].view(-1, SEQ_LEN).split(256),
        strict=True,
    )
    for input_ids, target_ids in rows:
        total += model(input_ids, target_ids).item()
    if whole < n_predicted:
        total += model(text[None, whole:-1], text[None, whole + 1 :]).item()
    return total / n_predicted


def default_data() -> Path:
    """tinyshakespeare among the public data (PARAKIT_DATA, or ../shared/data)."""
    home = os.environ.get("PARAKIT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(home) / "tinyshakespeare" / "input.txt"


def main() -> None:
    """Parse, train, evaluate, print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="a UTF-8 text file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    characters = arguments.data.read_text(encoding="utf-8")
    known = {character: number for number, character in enumerate(sorted(set(characters)))}
    text = torch.tensor([known[character] for character in characters])
    n_train = int(0.9 * len(text))
    model = CharacterGPT(len(known))
    trained_from = time.perf_counter()
    train(model, text[:n_train], arguments.steps, arguments.seed, arguments.compile)
    trained = time.perf_counter()
    loss = validation_loss(model, text[n_train:])
    figures = {
        "validation_loss": round(loss, 5),
        "seconds": round(time.perf_counter() - STARTED, 3),
        "train_seconds": round(trained - trained_from, 3),
        "steps": arguments.steps,
        "seed": arguments.seed,
        "n_params": sum(parameter.numel() for parameter in model.parameters()),
        "compiled": arguments.compile,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
