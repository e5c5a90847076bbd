"""The ten-second calibration: how fast this machine computes what models are made of. Stored next to the compile cache.

Blocks, heads, updates and decoding steps are Parakit's own, at a few widths. With one thread, processor time is taken,
which other work on the machine hardly changes; with several, the time on the wall.

Shapes: B rows, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.common.files import cache_folder, read_json, write_json_atomic
from parakit.common.hardware import available_memory, describe_hardware, resident_memory
from parakit.common.progress import log
from parakit.common.settings import config_digest
from parakit.inference.speed import memory_bandwidth
from parakit.model.adapters import attach, make_lora
from parakit.model.adapters.config import LoraConfig
from parakit.model.heads import LanguageModel
from parakit.model.kernels.attention import attention as kernel_attention
from parakit.model.quantized import QuantScheme, make_plan, quantize_modules
from parakit.planning.calibration import VERSION, BlockSpeed, MeasuredSpeeds
from parakit.planning.machines import Machine, find_machine, read_cards
from parakit.planning.operations import matrix_flops, newton_schulz_flops_of, score_flops
from parakit.stages.planning.engine_speeds import engine_speeds
from parakit.stages.planning.timing import default_config, typical_seconds
from parakit.training.objectives.distribution_losses import divergence, log_probs_at_temperature
from parakit.training.objectives.fused_head_loss import (
    CHUNK_ELEMENTS,
    SMALL_CHUNK_ELEMENTS,
    fused_cross_entropy,
)
from parakit.training.optimizers.adamw import AdamW
from parakit.training.optimizers.muon import Muon
from parakit.training.parallel.engine import ONE_PROCESS
from parakit.training.threads import kept_memory
from parakit.training.throughput import measure_peak_flops

WIDTHS = (64, 128, 256, 512, 1024)
B, T = 2, 256
SECONDS = 0.2  # of each measurement, about
HEAD_ROWS, HEAD_VOCABULARY = 512, 8192


def this_machine(recalibrate: bool = False) -> Machine:
    """The machine at hand: its accelerator where the table of cards has it, else its processor, calibrated now where no
    earlier measurement of it is stored.
    """
    return own_card() or _machine(calibration(recalibrate))


def own_card() -> Machine | None:
    """The first accelerator of this machine with the figures of the table; None without one that is in it."""
    if not torch.cuda.is_available():
        return None
    name = card_of(torch.cuda.get_device_name())
    if name is None:
        return None
    return find_machine(name).replace(memory_bytes=float(torch.cuda.mem_get_info()[0]))


def card_of(device_name: str) -> str | None:
    """The name in the table of what a driver calls "NVIDIA A100-SXM4-80GB": that with the most parts in common, all of
    them.
    """
    words = re.findall(r"[a-z]+\d*[a-z]*|\d+[a-z]*", device_name.lower())
    joined = {*words, *(first + second for first, second in pairwise(words))}
    known = [name for name in read_cards() if all(part in joined for part in name.split("-"))]
    return max(known, key=lambda name: len(name.split("-")), default=None)


def this_machine_if_known() -> Machine | None:
    """The machine at hand where it was calibrated before, with as many threads; else None."""
    stored = _stored().get(_key())
    return None if stored is None else _machine(stored)


def uncalibrated_machine() -> Machine:
    """The machine at hand, known by its peak alone, which takes a quarter of a second."""
    return _machine(None)


def _machine(speeds: MeasuredSpeeds | None) -> Machine:
    hardware, n_threads = describe_hardware(), torch.get_num_threads()
    peak = speeds.peak_flops if speeds else measure_peak_flops("cpu", torch.float32)
    return Machine(
        name="this machine",
        title=f"this machine ({hardware['processor']}, {n_threads} thread{'s' * (n_threads > 1)})",
        peak_flops={"float32": peak, "bfloat16": peak * (speeds.bfloat16_gain if speeds else 1.0)},
        bandwidth=speeds.decoding[-1][1] if speeds else memory_bandwidth(torch.device("cpu")),
        memory_bytes=float(available_memory() or 0),
        calibration=speeds,
        is_cpu=True,
        source="calibrated here" if speeds else "its peak measured here",
    )


def calibration(recalibrate: bool = False) -> MeasuredSpeeds:
    """The stored calibration of this machine, torch version and number of threads, or a new one."""
    stored, key = _stored(), _key()
    if not recalibrate and key in stored:
        return stored[key]
    log("calibrating: timing blocks, heads and decoding steps on this machine, about ten seconds")
    measured = calibrate()
    with contextlib.suppress(OSError):  # without the file the next plan measures again
        _path().parent.mkdir(parents=True, exist_ok=True)
        rows = {name: one.model_dump(mode="json") for name, one in {**stored, key: measured}.items()}
        write_json_atomic(_path(), rows)
    return measured


def _path() -> Path:
    return cache_folder() / "calibration.json"


def _key() -> str:
    settings = {
        "hardware": describe_hardware(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return config_digest(settings)


def _stored() -> dict[str, MeasuredSpeeds]:
    """The calibrations on this disk, by machine; those that another version measured are left out."""
    found: dict[str, MeasuredSpeeds] = {}
    with contextlib.suppress(OSError, ValueError, UserError):
        for key, row in read_json(_path(), dict[str, Any]).items():
            with contextlib.suppress(ValueError):
                one = MeasuredSpeeds.model_validate(row)
                found |= {key: one} if one.version == VERSION else {}
    return found


def calibrate(widths: tuple[int, ...] = WIDTHS, seconds: float = SECONDS) -> MeasuredSpeeds:
    """Measure now. `seconds`: of each part. Freed memory is kept, as in training (`training/threads.py`): else every large
    tensor is given back, and taken again page by page.
    """
    process_bytes = resident_memory()
    with kept_memory():
        return _calibrated(widths, seconds, process_bytes)


def _calibrated(widths: tuple[int, ...], seconds: float, process_bytes: int) -> MeasuredSpeeds:
    rng_state = torch.get_rng_state()
    scores_forward, scores_train = _score_speeds(seconds)
    head_train, logit_seconds = _head_speeds(seconds)
    divergence_seconds, small_divergence_seconds = (
        max(0.0, _divergence_seconds(n, seconds) - logit_seconds)
        for n in (CHUNK_ELEMENTS, SMALL_CHUNK_ELEMENTS)
    )
    block_seconds, block_step_seconds = _block_seconds(widths[0], seconds)
    decoding = engine_speeds(seconds)
    speeds = MeasuredSpeeds(
        hardware=str(describe_hardware()["processor"]),
        n_threads=torch.get_num_threads(),
        blocks=tuple(
            _block_speed(width, seconds, scores_forward, scores_train, block_seconds) for width in widths
        ),
        block_seconds=block_seconds,
        block_step_seconds=block_step_seconds,
        divergence_seconds=divergence_seconds,
        small_divergence_seconds=small_divergence_seconds,
        scores_forward=scores_forward,
        scores_train=scores_train,
        head_train=head_train,
        logit_seconds=logit_seconds,
        scored_training_logit_seconds=_scored_logit_seconds(seconds),
        adamw_seconds=_adamw_seconds(seconds),
        process_bytes=process_bytes,
        peak_flops=_peak_flops(seconds),
        bfloat16_gain=_bfloat16_gain(seconds),
        quantized_gain=_quantized_gain(seconds),
        **decoding,
    )
    torch.set_rng_state(rng_state)
    return speeds


def _block_seconds(width: int, seconds: float) -> tuple[float, float]:
    """Of training one block of few numbers on a handful of tokens, where hardly anything is computed: its passes, and the rest
    of a step.
    """
    n_blocks = 4
    model = LanguageModel(default_config(width, n_blocks))
    ids = torch.randint(64, (1, 4))
    optimizer = AdamW(list(model.named_parameters()), 0.0)
    parameters = list(model.parameters())

    def finish() -> None:
        model.train()
        ONE_PROCESS.clip(parameters, 1.0)
        optimizer.step()

    passes = typical_seconds(lambda: model.hidden(ids).sum().backward(), seconds / 2)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    return passes / n_blocks, typical_seconds(finish, seconds / 4) / n_blocks


def _block_speed(
    width: int, seconds: float, scores_forward: float, scores_train: float, block_seconds: float
) -> BlockSpeed:
    """Of two blocks, or one where they are large; attention's scores and the blocks' calls are taken off."""
    config = default_config(width, 2 if width < 512 else 1)
    model = LanguageModel(config)
    ids = torch.randint(config.vocab_size, (B, T))
    matrices = ids.numel() * matrix_flops(config)
    scores = ids.numel() * score_flops(config, T)

    def forward() -> None:
        with torch.no_grad():
            model.hidden(ids)

    def train() -> None:
        model.hidden(ids).sum().backward()

    fast = matrices / max(1e-9, typical_seconds(forward, seconds) - scores / scores_forward)
    apart = 3 * scores / scores_train + config.n_layers * block_seconds
    training = 3 * matrices / max(1e-9, typical_seconds(train, seconds) - apart)
    weight = next(p for name, p in model.named_parameters() if name.endswith("feed_forward.up.weight"))
    muon = newton_schulz_flops_of(weight.shape) / typical_seconds(Muon([("up", weight)], 0.0).step, seconds)
    for parameter in model.parameters():
        parameter.grad = None
    _freeze_with_lora(model)
    tuned = 2 * matrices / max(1e-9, typical_seconds(train, seconds) - apart)
    return BlockSpeed(d_model=width, forward=fast, train=training, adapters=tuned, muon=muon)


def _freeze_with_lora(model: LanguageModel) -> None:
    attach(model, make_lora(model, LoraConfig(rank=8)))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora" in name)


def _score_speeds(seconds: float) -> tuple[float, float]:
    """FLOP/s of causal attention without its matrices, forward and in training."""
    query, key, value = (torch.randn(B, 8, T, 64, requires_grad=True) for _ in range(3))
    attend = partial(nn.functional.scaled_dot_product_attention, query, key, value, is_causal=True)
    flops = B * 8 * T * 4 * 64 * (T + 1) / 2

    def forward() -> None:
        with torch.no_grad():
            attend()

    def train() -> None:
        found = kernel_attention(query, key, value, None, True, None)
        (attend() if found is None else found).sum().backward()

    return (
        flops / typical_seconds(forward, seconds),
        3 * flops / typical_seconds(train, seconds),
    )


def _head_speeds(seconds: float) -> tuple[float, float]:
    """FLOP/s of the output matrix in training, and seconds of one logit on top, solved from two widths."""
    taken = {}
    for width in (64, 768):
        model = LanguageModel(default_config(width, 1, HEAD_VOCABULARY))
        hidden = torch.randn(HEAD_ROWS, width, requires_grad=True)
        targets = torch.randint(HEAD_VOCABULARY, (HEAD_ROWS,))
        work = lambda: fused_cross_entropy(model, hidden, targets, 0.0).backward()  # noqa: B023, E731
        taken[width] = typical_seconds(work, seconds)
    n_logits = HEAD_ROWS * HEAD_VOCABULARY
    rate = 6 * n_logits * (768 - 64) / max(1e-9, taken[768] - taken[64])
    return rate, max(0.0, taken[64] / n_logits - 6 * 64 / rate)


def _scored_logit_seconds(seconds: float) -> float:
    """Of the log-probability of a logit's row, and its gradient, without the output matrix."""
    logits = torch.randn(HEAD_ROWS, HEAD_VOCABULARY, requires_grad=True)
    targets = torch.randint(HEAD_VOCABULARY, (HEAD_ROWS,))

    def work() -> None:
        torch.autograd.grad(nn.functional.cross_entropy(logits, targets, reduction="sum"), logits)

    return typical_seconds(work, seconds / 2) / logits.numel()


def _divergence_seconds(n_logits: int, seconds: float) -> float:
    """Of one logit of a student and its teacher, of so many at a time: the divergence, the cross-entropy, and the gradient of
    their sum. Large chunks do not fit into the processor's caches.
    """
    given, logits = (torch.randn(n_logits // HEAD_VOCABULARY, HEAD_VOCABULARY) for _ in range(2))
    targets = torch.randint(HEAD_VOCABULARY, (len(logits),))
    logits.requires_grad_()

    def work() -> None:
        teacher, student = (log_probs_at_temperature(one, 2.0) for one in (given, logits))
        loss = divergence(teacher, student, "forward").sum() + nn.functional.cross_entropy(logits, targets)
        torch.autograd.grad(loss, logits)

    return typical_seconds(work, seconds) / logits.numel()


def _adamw_seconds(seconds: float) -> float:
    weight = nn.Parameter(torch.zeros(2**21))
    weight.grad = torch.ones_like(weight)
    return typical_seconds(AdamW([("weight", weight)], 0.0).step, seconds) / weight.numel()


def _peak_flops(seconds: float) -> float:
    square = torch.randn(1024, 1024)
    return 2 * 1024**3 / typical_seconds(lambda: square @ square, seconds)


def _bfloat16_gain(seconds: float) -> float:
    """How much faster a block trains in bfloat16."""
    model = LanguageModel(default_config(512, 1))
    ids = torch.randint(64, (B, T))

    def train(enabled: bool) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = model.hidden(ids).sum()
        loss.backward()

    plain, lower = (typical_seconds(partial(train, enabled), seconds / 2) for enabled in (False, True))
    return plain / lower


def _quantized_gain(seconds: float) -> float:
    """How much faster adapters train on a block whose matrices have 4 bits."""
    ids = torch.randint(64, (B, T))
    taken = []
    for bits in (32, 4):
        model = LanguageModel(default_config(512, 1))
        if bits == 4:
            quantize_modules(model, make_plan(model, QuantScheme(bits=4, quant_group_size=32)))
        _freeze_with_lora(model)
        taken.append(typical_seconds(lambda: model.hidden(ids).sum().backward(), seconds / 2))  # noqa: B023
    return taken[0] / taken[1]
