"""Forward passes and training steps of GPT-2-, BERT- and T5-shaped models against transformers on the same cores.

transformers writes a randomly initialised folder, both sides load it, in fp32 and without compilation, in one
process; they take turns, and the ratio is that of each round. A training step is forward, backward, clipping and
AdamW, with the dropout that was published. Both sides' logits are compared too: a speed is worth something only
for the same work. A ratio above 1 means that Parakit is faster.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.harness import paired
from benchmarks.registry import Figures, benchmark
from benchmarks.speed.peers.parakit_side import adamw_plan

VOCAB_SIZES = {"gpt2": 50_257, "bert": 30_522, "t5": 32_128}  # those that were published
MASKED_SHARE = 0.15  # of BERT's tokens, which are what its loss is about
# d_model, layers, rows, tokens in a row
Size = Literal["small", "medium", "large"]
Family = Literal["gpt2", "bert", "t5"]
Task = Literal["forward", "train"]
SIZES: Mapping[Size, tuple[int, int, int, int]] = {
    "small": (256, 4, 8, 128),
    "medium": (512, 6, 8, 256),
    "large": (768, 6, 8, 256),
}
FAMILIES: tuple[Family, ...] = ("gpt2", "bert", "t5")
TASKS: tuple[Task, ...] = ("forward", "train")
Step = Callable[[], Any]


@dataclass(frozen=True)
class Work:
    """A batch that both sides are given, and how much of it there is."""

    input_ids: Any  # (B, T)
    target_ids: Any  # (B, T)
    counted: Any  # (B, T) bool
    n_tokens: int


@benchmark("families", {
    "ratio.*": (">= 1.0", "{0}: tokens per second over transformers'"),
})  # fmt: skip
def families(
    *,
    families: tuple[Family, ...] = FAMILIES,
    sizes: tuple[Size, ...] = ("small", "medium"),
    tasks: tuple[Task, ...] = TASKS,
    dropout: float = 0.1,
    repeats: int = 7,
    threads: int = 0,
) -> Figures:
    """Every family, size and task. `threads` = 0 uses all cores."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    figures: Figures = {"dropout": dropout, "threads": torch.get_num_threads(), "ratio": {}}
    for family in families:
        for size in sizes:
            measured = compare(family, size, tasks, dropout, repeats)
            figures[f"{family} {size}"] = measured
            for task in tasks:
                figures["ratio"][f"{family} {size} {task}"] = measured[task]["ratio"]["tokens_per_second"]
    return figures


def compare(
    family: Family, size: Size, tasks: Sequence[Task], dropout: float, repeats: int
) -> dict[str, Any]:
    """One family at one size: tokens a second of both sides, their ratio, and how far their logits are apart."""
    from parakit.checkpoints import load_model

    with tempfile.TemporaryDirectory() as folder:
        peer = make_peer(family, size, dropout)
        peer.save_pretrained(folder)
        model, _ = load_model(folder, dtype="float32")
    work = batch_of(family, size)
    result: dict[str, Any] = {"n_params": model.config.n_params()["total"]}
    result["logits_apart"] = apart(model, peer, family, work)
    steps = {
        "forward": (parakit_forward(model, family, work), peer_forward(peer, family, work)),
        "train": (parakit_training(model, family, work), peer_training(peer, family, work)),
    }
    for task in tasks:
        parakit_step, peer_step = steps[task]
        n_steps = 4 if task == "forward" else 2
        parakit_step(), peer_step()  # warm
        result[task] = paired(
            timed(parakit_step, work.n_tokens, n_steps), timed(peer_step, work.n_tokens, n_steps), repeats
        )
    return result


def timed(step: Step, n_tokens: int, n_steps: int) -> Callable[[], Mapping[str, float]]:
    """Tokens a second of some steps."""

    def run() -> Mapping[str, float]:
        started = time.perf_counter()
        for _ in range(n_steps):
            step()
        return {"tokens_per_second": n_steps * n_tokens / (time.perf_counter() - started)}

    return run


def make_peer(family: Family, size: Size, dropout: float) -> Any:
    """A transformers model with random weights."""
    import torch
    import transformers

    width, layers, _, length = SIZES[size]
    heads, vocab_size = width // 64, VOCAB_SIZES[family]
    torch.manual_seed(0)
    if family == "gpt2":
        shape = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": length}
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        config = transformers.GPT2Config(vocab_size=vocab_size, **shape, **rates)
        return transformers.GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
    if family == "bert":
        shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
        rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
        config = transformers.BertConfig(
            vocab_size=vocab_size,
            intermediate_size=4 * width,
            max_position_embeddings=length,
            **shape,
            **rates,
        )
        return transformers.BertForMaskedLM._from_config(config, attn_implementation="sdpa")
    shape = {"d_model": width, "num_layers": layers, "num_heads": heads, "d_kv": 64, "d_ff": 4 * width}
    config = transformers.T5Config(vocab_size=vocab_size, dropout_rate=dropout, **shape)
    return transformers.T5ForConditionalGeneration(config)


def batch_of(family: Family, size: Size) -> Work:
    """Random ids; what counts is every token, or the masked ones. T5 reads rows and writes as many."""
    import torch

    _, _, rows, length = SIZES[size]
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, VOCAB_SIZES[family], (rows, length + 1), generator=generator)
    counted = torch.ones(rows, length, dtype=torch.bool)
    if family == "bert":
        counted = torch.rand(rows, length, generator=generator) < MASKED_SHARE
    target_ids = ids[:, :-1] if family == "bert" else ids[:, 1:]
    n_sides = 2 if family == "t5" else 1
    return Work(ids[:, :-1].contiguous(), target_ids.contiguous(), counted, n_sides * rows * length)


def apart(model: Any, peer: Any, family: str, work: Work) -> float:
    """The largest difference between both sides' logits, which must be small."""
    import torch

    peer.eval()
    with torch.inference_mode():
        found = float(
            (parakit_forward(model, family, work)() - peer_forward(peer, family, work)()).abs().max()
        )
    if found > 1e-3:
        raise RuntimeError(f"{family}: the two sides' logits are {found} apart")
    return found


def parakit_forward(model: Any, family: str, work: Work) -> Step:
    """Logits of every token."""
    import torch

    @torch.inference_mode()
    def step() -> Any:
        model.eval()
        return model(work.input_ids, work.input_ids) if family == "t5" else model(work.input_ids)

    return step


def peer_forward(model: Any, family: str, work: Work) -> Step:
    """Logits of every token."""
    import torch

    extra = {"decoder_input_ids": work.input_ids} if family == "t5" else {}

    @torch.inference_mode()
    def step() -> Any:
        model.eval()
        return (
            model(input_ids=work.input_ids, use_cache=False, **extra).logits
            if family != "bert"
            else model(input_ids=work.input_ids).logits
        )

    return step


def parakit_training(model: Any, family: str, work: Work) -> Step:
    """Steps of Parakit's training loop."""
    from itertools import repeat

    from parakit.training.loop import train_steps
    from parakit.training.micro_batches import MaskedMicroBatch, MicroBatch, PairMicroBatch
    from parakit.training.objectives import masked_token, next_token, sequence_to_sequence
    from parakit.training.optimizers.optimizer import Optimizer

    n_counted = int(work.counted.sum())
    batch: Any
    if family == "t5":
        batch = PairMicroBatch(
            source_ids=work.input_ids, source_mask=None, source_position_ids=None, input_ids=work.input_ids,
            target_ids=work.target_ids, loss_mask=None, position_ids=None, attention_mask=None, cross_mask=None,
            n_counted=n_counted,
        )  # fmt: skip
        objective: Any = sequence_to_sequence()
    else:
        kind = MaskedMicroBatch if family == "bert" else MicroBatch
        loss_mask = work.counted if family == "bert" else None
        batch = kind(work.input_ids, work.target_ids, loss_mask, None, None, n_counted)
        objective = masked_token if family == "bert" else next_token
    steps = train_steps(model, repeat([batch]), objective, Optimizer(model, adamw_plan(8, 8, 1e-4)))
    return lambda: next(steps).loss


def peer_training(model: Any, family: str, work: Work) -> Step:
    """Steps as transformers' documentation shows them, with torch's fused AdamW."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    labels = work.target_ids.masked_fill(~work.counted, -100)
    if family == "gpt2":
        given = {"labels": labels, "shift_labels": labels, "use_cache": False}
    elif family == "t5":
        given = {"labels": labels, "decoder_input_ids": work.input_ids, "use_cache": False}
    else:
        given = {"labels": labels}

    def step() -> float:
        model.train()
        loss = model(input_ids=work.input_ids, **given).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step
