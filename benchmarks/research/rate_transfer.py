"""Whether the best learning rate of a narrow model is that of a wide one, with Muon and with AdamW.

Decoders of three layers over the bytes of plays, trained alike but for width and rate of the matrices; embeddings and norms
have one rate (`EMBEDDING_RATE`). Initial weights are those of every new model: matrices of deviation 1 / sqrt(inputs), those
that write into the residual stream zero. A run's loss is the mean of its last steps. The best rate of a width is the minimum of
a parabola through the three losses around the least, over the logarithm of the rate; the exponent is the slope of its
logarithm against that of the width: 0 where a rate transfers as it is, -1 where it falls as in Yang et al. 2022 ("Tensor
Programs V", table 3) for Adam.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import DATA
from benchmarks.registry import NO_TARGET, Figures, benchmark

WIDTHS = (32, 64, 128, 256)
RATES: Mapping[str, tuple[float, ...]] = {
    "muon": tuple(0.005 * 2**k for k in range(5)),
    "adamw": tuple(0.0005 * 2**k for k in range(7)),
}
EMBEDDING_RATE = 0.004
VOCAB_SIZE, SEQ_LEN, ROWS, N_LAYERS, HEAD_DIM = 257, 128, 8, 3, 32  # 256 is the end of a document
N_LAST = 20  # steps of which the loss is the mean


@benchmark("rate_transfer", {
    "exponent.muon": (NO_TARGET, "Muon: exponent of the best rate against the width"),
    "exponent.adamw": (NO_TARGET, "AdamW: exponent of the best rate against the width"),
    "excess.muon": ("<= 0.01", "Muon: loss at the widest with the narrowest's best rate, over its own least, minus 1"),
    "excess.adamw": (NO_TARGET, "AdamW: the same"),
    "excess.adamw_by_width": (
        "<= 0.01", "AdamW: the same, with the rate divided by the width's growth"
    ),
})  # fmt: skip
def rate_transfer(
    *,
    data: Path = DATA,
    work: Path | None = None,
    widths: tuple[int, ...] = WIDTHS,
    optimizers: tuple[str, ...] = tuple(RATES),
    steps: int = 120,
    picture: Path | None = None,
) -> Figures:
    """Every width with every rate. `work`: a folder of finished runs, which are not repeated."""
    import torch

    torch.set_num_threads(1)
    text = np.frombuffer(read_plays(data), np.uint8)
    losses: dict[str, dict[str, dict[str, float]]] = {}
    for optimizer in optimizers:
        of_optimizer = losses.setdefault(optimizer, {})
        for width in widths:
            of_optimizer[str(width)] = {
                f"{rate:g}": _cached(work, text, optimizer, width, rate, steps) for rate in RATES[optimizer]
            }
    figures = {"losses": losses, "steps": steps} | compare(losses)
    if picture is not None:
        from benchmarks.pictures import draw_rate_transfer

        draw_rate_transfer(picture, losses)
    return figures


def read_plays(data: Path) -> bytes:
    """The text of the plays."""
    return (data / "tinyshakespeare/input.txt").read_bytes()


def compare(losses: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figures:
    """Best rates, exponents, and what the narrowest model's best rate costs the widest."""
    best: Figures = {}
    exponents: dict[str, float] = {}
    excess: dict[str, float] = {}
    for optimizer, by_width in losses.items():
        widths = sorted(map(int, by_width))
        curves = {width: [(float(r), loss) for r, loss in by_width[str(width)].items()] for width in widths}
        best[optimizer] = {str(width): best_rate(curves[width]) for width in widths}
        rates = [best[optimizer][str(width)] for width in widths]
        exponents[optimizer] = (
            float(np.polyfit(np.log(widths), np.log(rates), 1)[0]) if len(widths) > 1 else 0.0
        )
        widest, growth = curves[widths[-1]], widths[-1] / widths[0]
        least = min(loss for _, loss in widest)
        excess[optimizer] = loss_at(widest, rates[0]) / least - 1
        if optimizer == "adamw":
            excess["adamw_by_width"] = loss_at(widest, rates[0] / growth) / least - 1
    return {"best_rate": best, "exponent": exponents, "excess": excess}


def best_rate(curve: Sequence[tuple[float, float]]) -> float:
    """The rate with the least loss, between the rates that were tried; at an edge the edge."""
    losses = [loss for _, loss in curve]
    i = int(np.argmin(losses))
    if not 0 < i < len(curve) - 1:
        return curve[i][0]
    before, here, after = losses[i - 1 : i + 2]
    shift = 0.5 * (before - after) / (before - 2 * here + after)
    return float(curve[i][0] * (curve[i + 1][0] / curve[i][0]) ** shift)


def loss_at(curve: Sequence[tuple[float, float]], rate: float) -> float:
    """The loss at any rate, on lines between the logarithms of those that were tried."""
    return float(np.interp(np.log(rate), np.log([r for r, _ in curve]), [loss for _, loss in curve]))


def _cached(
    work: Path | None, text: np.ndarray, optimizer: str, width: int, rate: float, steps: int
) -> float:
    if work is None:
        return train(text, optimizer, width, rate, steps)
    path = work / f"{optimizer}-{width}-{rate:g}-{steps}.json"
    if not path.exists():
        loss = train(text, optimizer, width, rate, steps)
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(loss), encoding="utf-8")
    return float(json.loads(path.read_text(encoding="utf-8")))


def train(text: np.ndarray, optimizer: str, width: int, rate: float, steps: int) -> float:
    """The loss of one run at its end, in nats a byte."""
    from parakit.common.seeds import seed_everything
    from parakit.model import DecoderConfig, LanguageModel
    from parakit.training.loop import train_steps
    from parakit.training.objectives import next_token
    from parakit.training.optimizers.optimizer import Optimizer

    seed_everything(0)
    n_heads = max(1, width // HEAD_DIM)
    model = LanguageModel(DecoderConfig(
        vocab_size=VOCAB_SIZE, d_model=width, n_layers=N_LAYERS, n_heads=n_heads, n_kv_heads=n_heads,
        head_dim=HEAD_DIM, d_ff=round(8 / 3 * width / 32) * 32, max_seq_len=SEQ_LEN,
    ))  # fmt: skip
    plan = _plan(optimizer, rate, steps)
    batches = (_batch(text, step) for step in range(steps))
    records = list(train_steps(model, batches, next_token, Optimizer(model, plan)))
    return statistics.fmean(record.loss for record in records[-N_LAST:])


def _plan(optimizer: str, rate: float, steps: int) -> Any:
    from parakit.training.config import TextTrainingConfig, resolve

    settings = {"optimizer": optimizer, "precision": "float32", "compile": "off", "device": "cpu"}
    config = TextTrainingConfig.parse(settings | {"max_steps": steps})
    plan = resolve(
        config, learning_rate=rate, embedding_learning_rate=EMBEDDING_RATE, batch_tokens=ROWS * SEQ_LEN,
        max_seq_len=SEQ_LEN, n_train_tokens=10**9,
    )  # fmt: skip
    return plan.replace(learning_rate=rate, embedding_learning_rate=EMBEDDING_RATE)


def _batch(text: np.ndarray, step: int) -> list[Any]:
    import torch

    from parakit.common.seeds import rng
    from parakit.training.micro_batches import MicroBatch

    starts = rng(0, "rows", step).integers(0, len(text) - SEQ_LEN - 1, ROWS)
    rows = torch.from_numpy(np.stack([text[s : s + SEQ_LEN + 1] for s in starts]).astype(np.int64))
    return [MicroBatch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), None, None, None, ROWS * SEQ_LEN)]
