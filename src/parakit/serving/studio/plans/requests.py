"""A plan as a person wants it: the question, its answer by `parakit.planning`, and the command that gives the same answer.

Nothing here knows of a web page.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from parakit.common.byte_counts import parse_bytes
from parakit.common.errors import UserError
from parakit.common.formatting import byte_size, compact, long_duration
from parakit.planning.best_size import best_in_memory, best_in_time, tokens_per_parameter
from parakit.planning.choices import (
    model_of,
    parse_count,
    parse_money,
    run_of,
    with_fitting_rows,
)
from parakit.planning.costs import hourly_price
from parakit.planning.machines import Machine, find_machine, read_cards
from parakit.planning.run_plan import RunPlan, plan_run
from parakit.planning.runs import RunMethod, RunSpec
from parakit.recipe.config import parse_time
from parakit.stages.planning.measuring import this_machine

PlanQuestion = Literal["size", "time", "budget", "memory"]
QUESTIONS: dict[PlanQuestion, tuple[str, str]] = {
    "time": ("What can I get in this time?", "10min"),
    "budget": ("What can I get for this money?", "50"),
    "memory": ("What fits into this memory?", "8GiB"),
    "size": ("What would this size take?", "125m"),
}
METHODS: dict[str, str] = {
    "pretrain": "pre-training",
    "full": "fine-tuning of all weights",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "dpo": "DPO",
    "grpo": "GRPO",
    "inference": "generation",
}
TUNING_TOKENS, GENERATED_TOKENS = 1_000_000.0, 1_000.0


@dataclass(frozen=True)
class PlanRequest:
    """A question and what is known. Empty texts: chosen by the planner."""

    question: PlanQuestion = "time"
    amount: str = "10min"
    method: str = "pretrain"
    family: str = "decoder"
    tokens: str = ""
    seq_len: str = ""
    gpu: str = ""
    n_gpus: int = 1
    checkpointing: bool = False

    def command(self) -> str:
        """The command that gives the same plan."""
        parts = ["parakit", "plan", f"--{self.question}", self.amount]
        if self.question == "size" and self.method != "pretrain":
            parts += ["--method", self.method]
        if self.family != "decoder":
            parts += ["--family", self.family]
        if self.question == "size" and self.tokens:
            parts += ["--tokens", self.tokens]
        if self.seq_len:
            parts += ["--seq-len", self.seq_len]
        if self.gpu:
            parts += ["--gpu", self.gpu, *(["--n-gpus", str(self.n_gpus)] if self.n_gpus > 1 else [])]
        if self.checkpointing and self.question != "memory":
            parts.append("--checkpointing")
        return shlex.join(parts)


@dataclass(frozen=True)
class MemoryAnswer:
    """The largest model of a method in a memory."""

    method: str
    parameters: int
    peak_bytes: int
    note: str


@dataclass(frozen=True)
class PlanAnswer:
    """A plan, or rows of what fits into a memory."""

    plan: RunPlan | None
    rows: tuple[MemoryAnswer, ...]
    machine: str


def card_names() -> list[str]:
    """The cards of the table."""
    return sorted(read_cards())


def answer(request: PlanRequest) -> PlanAnswer:
    """The plan of a request. `UserError` for what makes no sense, and where nothing fits. Planning for this machine measures
    it the first time, which takes some seconds.
    """
    machine = find_machine(request.gpu, request.n_gpus) if request.gpu else this_machine()
    answers: dict[str, Callable[[PlanRequest, Machine], PlanAnswer]] = {
        "size": _of_size,
        "memory": _in_memory,
    }
    return answers.get(request.question, _best)(request, machine)


def _spec(request: PlanRequest, machine: Machine, size: str | int) -> RunSpec:
    seq_len = int(parse_count(request.seq_len, "the row's length")) if request.seq_len else None
    config = model_of(size, seq_len=seq_len or 256, family=request.family)
    settings: dict[str, Any] = {
        "method": request.method if request.question == "size" else "pretrain",
        "seq_len": seq_len,
        "checkpointing": request.checkpointing,
        "precision": machine.default_precision() if request.gpu else "float32",
        "n_devices": request.n_gpus if request.gpu else 1,
    }
    return run_of(config, settings)


def _of_size(request: PlanRequest, machine: Machine) -> PlanAnswer:
    spec = _spec(request, machine, request.amount)
    n_active = spec.config.n_active_params()
    default = TUNING_TOKENS
    if request.method == "pretrain":
        default = tokens_per_parameter(n_active) * n_active
    elif request.method == "inference":
        default = GENERATED_TOKENS
    n_tokens = parse_count(request.tokens, "the tokens") if request.tokens else default
    return PlanAnswer(plan_run(with_fitting_rows(spec, machine), machine, n_tokens), (), machine.title)


def _best(request: PlanRequest, machine: Machine) -> PlanAnswer:
    if request.question == "time":
        seconds = parse_time(request.amount)
    else:
        seconds = 3600 * parse_money(request.amount) / hourly_price(machine, None)

    def spec_of_size(size: int) -> RunSpec | None:
        try:
            return with_fitting_rows(_spec(request, machine, size), machine)
        except UserError:  # no shape of that size has the vocabulary
            return None

    _spec(request, machine, "10m")  # what is wrong with the other settings shows
    return PlanAnswer(best_in_time(seconds, machine, spec_of_size), (), machine.title)


def _in_memory(request: PlanRequest, machine: Machine) -> PlanAnswer:
    def spec_of_size(size: int) -> RunSpec | None:
        try:
            return _spec(request, machine, size)
        except UserError:
            return None

    names: tuple[str, ...] = ("pretrain", "full", "dpo", "grpo", "lora", "qlora", "inference")
    if request.family != "decoder":
        names = ("pretrain", "full", "lora")
    methods = cast(tuple[RunMethod, ...], names)
    rows = best_in_memory(parse_bytes(request.amount, "memory"), machine, spec_of_size, methods)
    found = tuple(
        MemoryAnswer(METHODS[row.method], row.config.n_params()["total"], row.peak_bytes, row.note)
        for row in rows
    )
    return PlanAnswer(None, found, machine.title)


def main_figures(plan: RunPlan) -> list[tuple[str, str, str]]:
    """The figures that a person looks for first: (name, value, what it means)."""
    cost = plan.cost
    figures = [
        ("Size", compact(plan.spec.n_parameters), f"{compact(plan.spec.n_trained)} of them trained"),
        ("Tokens", compact(plan.n_tokens), f"{plan.n_steps:,} steps"),
        ("Time", long_duration(plan.seconds), f"{compact(plan.tokens_per_second)} tokens a second"),
        (
            "Memory",
            byte_size(plan.memory.peak),
            f"of {byte_size(plan.fit.available_bytes)}" + ("" if plan.fit.fits else ": does not fit"),
        ),
    ]
    if cost.rent_usd is not None:
        figures.append(("Rent", f"${cost.rent_usd:,.2f}", cost.price))
    elif cost.energy_usd is not None:
        figures.append(("Electricity", f"${cost.energy_usd:,.2f}", f"{cost.kilowatt_hours or 0:.3g} kWh"))
    if plan.expected is not None:
        loss = plan.expected
        figures.append(
            ("Expected loss", f"{loss.loss:.2f}", f"{loss.low:.2f} to {loss.high:.2f} nats a token")
        )
    return figures


def remarks(plan: RunPlan) -> list[str]:
    """What is to be known about the figures."""
    lines = []
    if plan.needed is not None:
        needed = plan.needed
        lines.append(
            f"Tokens for this size: {compact(needed.chinchilla)} (Chinchilla, 20 a parameter),"
            f" {compact(needed.besiroglu)} (Besiroglu et al. 2024), {compact(needed.kaplan)} (Kaplan et al. 2020)."
        )
    if plan.expected is not None:
        beyond = (
            " It is outside of the sizes that the law was fitted to." if plan.expected.is_extrapolated else ""
        )
        lines.append(f"The loss is expected on the text of {plan.expected.law}.{beyond}")
    if not plan.fit.fits:
        lines.append(
            f"It does not fit. The nearest that does: {plan.fit.change}."
            if plan.fit.change
            else "It does not fit, and nothing near it does: take a smaller model, or more memory."
        )
    return lines
