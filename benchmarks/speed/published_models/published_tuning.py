"""Tuning a published model of 135M parameters against transformers and peft at equal settings: all weights, and LoRA.

Each side is a process of its own, the sides take turns: the same folder, the same rows of a public book, AdamW in float32,
one thread, nothing compiled. The LoRA sides begin with one saved adapter. Losses are compared step by step.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, paired, run_process, work_folder
from benchmarks.quality.real_models.data import imported
from benchmarks.registry import NO_TARGET, Figures, benchmark

RATES = {"full": 2e-5, "lora": 2e-4}
ROWS, SEQ_LEN, STEPS, BETAS, RANK = 2, 512, 5, (0.9, 0.95), 8
PROGRAM = (sys.executable, "-m", "benchmarks.speed.published_models.published_tuning")
Step = Callable[[], float]


@benchmark("published_tuning", {
    "*.ratio.processor_seconds_per_step": ("<= 1", "{0}: processor seconds a step over the peer's"),
    "*.ratio.seconds_per_step": (NO_TARGET, "{0}: seconds a step over the peer's"),
    "*.ratio.peak_memory_mib": ("<= 1", "{0}: peak memory of the process over the peer's"),
    "*.largest_difference": ("<= 1e-4", "{0}: largest difference of the losses"),
})  # fmt: skip
def published_tuning(*, data: Path = DATA, repeats: int = 3, work: Path | None = None) -> Figures:
    """The peer of full tuning is transformers, that of LoRA is peft over transformers."""
    with work_folder(work) as folder:
        imported("smollm2", folder / "model")
        _prepare(folder, data)
        return {method: _compared(method, folder, repeats) for method in RATES}


def _prepare(folder: Path, data: Path) -> None:
    """Rows of ids and an adapter that has not been trained, for both sides."""
    from parakit.checkpoints import load_model
    from parakit.checkpoints.adapters import save_adapter
    from parakit.common.artifacts import Lineage
    from parakit.common.seeds import seed_everything
    from parakit.model.adapters import LoraConfig, make_lora

    model, tokenizer = load_model(folder / "model", dtype="float32")
    assert tokenizer is not None
    book = data / "gutenberg" / "The-Adventures-of-Sherlock-Holmes_1661.txt.gz"
    text = gzip.decompress(book.read_bytes()).decode("utf-8")[2000:100_000]
    ids = tokenizer.encode(text)[: ROWS * (SEQ_LEN + 1)]
    rows = [ids[i * (SEQ_LEN + 1) : (i + 1) * (SEQ_LEN + 1)] for i in range(ROWS)]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    if not (folder / "adapter").exists():
        seed_everything(0)
        adapter = make_lora(model, LoraConfig(rank=RANK))
        save_adapter(model, adapter, folder / "model", folder / "adapter", Lineage("adapter"))


def _compared(method: str, folder: Path, repeats: int) -> Figures:
    losses: dict[str, list[float]] = {}

    def side(name: str) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            done = run_process(
                [*PROGRAM, name, method, folder],
                environment={"OMP_NUM_THREADS": "1"},
            )
            losses[name] = done.figures.pop("losses")
            return done.figures | {"peak_memory_mib": done.peak_memory_mib}

        return run

    result: Figures = paired(side("parakit"), side("peer"), repeats)
    differences = [abs(a - b) for a, b in zip(losses["parakit"], losses["peer"], strict=True)]
    return result | {"largest_difference": max(differences), "losses": losses["parakit"]}


def _parakit_step(method: str, folder: Path, ids: Any) -> Step:
    from benchmarks.speed.peers.parakit_side import WholeRows, adamw_plan
    from parakit.checkpoints import load_model
    from parakit.training.objectives import next_token
    from parakit.training.trainer import Trainer

    model, _ = load_model(folder / ("model" if method == "full" else "adapter"), dtype="float32")
    plan = adamw_plan(SEQ_LEN, ROWS, RATES[method])
    steps = Trainer(model, WholeRows(ids.numpy()), next_token, plan, folder=None).steps()
    return lambda: next(steps).loss


def _peer_step(method: str, folder: Path, ids: Any) -> Step:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    if method == "lora":
        import peft

        model = peft.PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, RATES[method], betas=BETAS, weight_decay=0.0, fused=True)
    inputs, targets = ids[:, :-1], ids[:, 1:].contiguous()

    def step() -> float:
        loss = model(input_ids=inputs, labels=inputs, shift_labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def main(name: str, method: str, folder: Path) -> Figures:
    """One side: the first step warms up, the others are timed."""
    import torch

    torch.set_num_threads(1)
    ids = torch.tensor(json.loads((folder / "rows.json").read_text(encoding="utf-8")))
    step = (_parakit_step if name == "parakit" else _peer_step)(method, folder, ids)
    losses = [step()]
    wall, processor = time.perf_counter(), time.process_time()
    losses += [step() for _ in range(STEPS)]
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {
        "losses": losses,
        "seconds_per_step": wall / STEPS,
        "processor_seconds_per_step": processor / STEPS,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
