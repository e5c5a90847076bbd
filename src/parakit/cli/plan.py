"""`parakit plan`: what a run will take before it starts, or the best that a time, an amount of money or a memory allows."""

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field
from rich.console import Console

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.common.errors import UserError
from parakit.common.settings import Config, Family

if TYPE_CHECKING:
    from parakit.planning.machines import Machine
    from parakit.planning.run_plan import RunPlan
    from parakit.planning.runs import RunSpec

PlanMethod = Literal["pretrain", "full", "lora", "prompt", "qlora", "dpo", "grpo", "distill", "inference"]
TUNING_TOKENS = 1_000_000.0
_SUBJECTS = ("recipe", "size", "time", "budget", "memory", "text")
_Count = Annotated[int, Field(ge=1, le=10**9)]


class PlanCommandConfig(Config):
    """Plan a run before it starts: parameters, operations, memory, time, energy, money, tokens and loss. One of a recipe,
    --size, --time, --budget, --memory or --tokens FILE says of what.
    """

    recipe: tyro.conf.Positional[str | None] = Field(
        default=None, description="A recipe file: every stage that trains is planned."
    )
    size: str | None = Field(
        default=None,
        description="Number of parameters, for example 125m, or a published model, for example gpt-3.",
    )
    time: str | None = Field(default=None, description="The best model in this time, for example 10min.")
    budget: str | None = Field(default=None, description="The best model for this money, in US dollars.")
    memory: str | None = Field(
        default=None, description="The largest model of every method in this memory, for example 8GiB."
    )
    tokens: str | None = Field(
        default=None,
        description="Tokens of the run, for example 2.5b; or a file of text: its tokens, and what an API charges for them.",
    )
    method: PlanMethod = Field(default="pretrain", description="With --size: what is done with the model.")
    family: Family = Field(default="decoder", description="Family of a new model.")
    architecture: str | None = Field(
        default=None, description="Architecture of a new model, for example bert. Default: Parakit's own."
    )
    vocab_size: Annotated[int | None, Field(ge=256, le=10**6)] = Field(
        default=None, description="Vocabulary of a new model. Default: from its size."
    )
    seq_len: Annotated[int | None, Field(ge=8, le=10**7)] = Field(
        default=None,
        description="Tokens of a row. Default: 256 of a new model, else its context up to 2,048.",
    )
    batch_tokens: _Count | None = Field(default=None, description="Tokens of an optimizer step.")
    micro_batch_size: _Count | None = Field(
        default=None, description="Rows of a forward pass. Default: as many as fit."
    )
    optimizer: Literal["muon", "adamw", "adam", "sgd", "schedule_free"] | None = Field(
        default=None, description="Default: muon for a new model, else adamw."
    )
    precision: Literal["float32", "bfloat16", "float16", "fp8"] | None = Field(
        default=None, description="Of the products. Default: float32 here, bfloat16 or float16 on a card."
    )
    checkpointing: bool = Field(default=False, description="Compute blocks again in the backward pass.")
    rank: Annotated[int, Field(ge=1, le=4096)] = Field(default=8, description="Of the adapter.")
    bits: Literal[4, 8, 16, 32] = Field(default=16, description="Bits of the stored weights.")
    teacher: str | None = Field(default=None, description="Size or published name of the teacher.")
    new_tokens: _Count = Field(default=64, description="Tokens of a completion.")
    group_size: Annotated[int, Field(ge=2, le=1024)] = Field(
        default=8, description="Completions of a prompt."
    )
    n_sequences: _Count = Field(default=1, description="Sequences that are decoded at once.")
    gpu: str | None = Field(
        default=None, description="A card of the table, for example h100. Default: this machine."
    )
    n_gpus: Annotated[int, Field(ge=1, le=100_000)] = Field(default=1, description="Number of cards.")
    sharding: Literal["none", "optimizer", "gradients", "full"] = Field(
        default="none", description="What the cards divide among them (ZeRO 1, 2 and 3)."
    )
    utilization: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.4, description="Share of a card's peak FLOP/s that training reaches."
    )
    cards: str | None = Field(default=None, description="A YAML file of further cards.")
    price_per_hour: Annotated[float | None, Field(ge=0)] = Field(
        default=None, description="US dollars for an hour of one device. Default: the table's."
    )
    price_per_kwh: Annotated[float | None, Field(ge=0)] = Field(
        default=None, description="US dollars for a kilowatt-hour. Default: the table's."
    )
    prices: str = Field(default="all", description="A price list of an API, or a YAML file of your own.")
    tokenizer: str | None = Field(
        default=None, description="A folder whose tokenizer counts. Default: an estimate."
    )
    output_share: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=0.0, description="Tokens that the API writes for each that it reads."
    )
    recalibrate: bool = Field(default=False, description="Measure this machine again.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )

    @property
    def text(self) -> str | None:
        """The file that --tokens names, if it is no number."""
        return self.tokens if self.tokens and not _is_count(self.tokens) else None


def _is_count(text: str) -> bool:
    return text[:1].isdigit() and not os.path.isfile(text)


def _needs(flags: str, met: Callable[[PlanCommandConfig], object], reason: str, hint: str) -> Needs:
    return Needs(tuple(flags.split()), lambda command: bool(met(command)), reason, hint)


_NEEDS = (
    _needs("method", lambda c: c.size, "only a model of a given size is planned by method", "name --size"),
    _needs(
        "family architecture vocab_size",
        lambda c: c.size or c.time or c.budget or c.memory,
        "no new model is planned",
        "name --size, --time, --budget or --memory",
    ),
    _needs(
        "batch_tokens micro_batch_size checkpointing precision optimizer",
        lambda c: (c.size and c.method != "inference") or c.time or c.budget,
        "nothing is trained by steps of this run's own",
        "name --size, --time or --budget",
    ),
    _needs(
        "seq_len", lambda c: c.size or c.time or c.budget or c.memory, "no model is planned", "name --size"
    ),
    _needs("rank", lambda c: c.method in ("lora", "qlora"), "no adapter is trained", "set --method lora"),
    _needs(
        "bits", lambda c: c.method in ("qlora", "inference"), "weights are trained", "set --method inference"
    ),
    _needs("teacher", lambda c: c.method == "distill", "there is no teacher", "set --method distill"),
    _needs("new_tokens group_size", lambda c: c.method == "grpo", "nothing is sampled", "set --method grpo"),
    _needs("n_sequences", lambda c: c.method == "inference", "nothing is decoded", "set --method inference"),
    _needs("n_gpus utilization", lambda c: c.gpu, "this machine is planned for", "name a card with --gpu"),
    _needs("cards", lambda c: c.gpu, "no card is named", "name one with --gpu"),
    _needs(
        "gpu price_per_hour price_per_kwh", lambda c: not c.text, "a text is priced", "drop --tokens FILE"
    ),
    _needs("sharding", lambda c: c.n_gpus > 1, "there is one device", "name several with --n-gpus"),
    _needs("recalibrate", lambda c: not c.gpu and not c.text, "this machine is not used", "drop --gpu"),
    _needs(
        "prices tokenizer output_share", lambda c: c.text, "no text is priced", "name a file with --tokens"
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit plan` with these arguments."""
    command = parse_command(PlanCommandConfig, argv, "parakit plan")
    subjects = [name for name in _SUBJECTS if getattr(command, name)]
    if len(subjects) != 1:
        named = " and ".join(_spelled(name) for name in subjects) or "nothing to plan"
        raise UserError(
            f"{named} {'are' if len(subjects) > 1 else 'is'} given, and a plan is of one thing",
            "give one of: a recipe, --size, --time, --budget, --memory, --tokens FILE",
        )
    refuse_inert(command, _NEEDS)
    {"recipe": _recipe, "size": _size, "memory": _memory, "text": _text}.get(subjects[0], _best)(command)
    return 0


def _spelled(name: str) -> str:
    return {"recipe": "a recipe", "text": "--tokens FILE"}.get(name, f"--{name}")


def machine_of(command: PlanCommandConfig) -> "Machine":
    """The cards of the command, or this machine, which is measured."""
    from parakit.planning.machines import find_machine, read_cards

    if command.gpu:
        cards = read_cards(command.cards)
        return find_machine(command.gpu, command.n_gpus, utilization=command.utilization, cards=cards)
    from parakit.stages.planning.measuring import this_machine

    return this_machine(command.recalibrate)


def _run(command: PlanCommandConfig, machine: "Machine", size: str | int) -> "RunSpec":
    from parakit.planning.choices import model_of, run_of

    shape = {"vocab_size": command.vocab_size, "family": command.family, "architecture": command.architecture}
    config = model_of(size, seq_len=command.seq_len or 256, **shape)  # type: ignore[arg-type]
    teacher = command.teacher and model_of(
        command.teacher, seq_len=command.seq_len or 256, vocab_size=config.vocab_size, family=command.family
    )
    settings: dict[str, Any] = {
        name: getattr(command, name)
        for name in (
            "method",
            "seq_len",
            "batch_tokens",
            "micro_batch_size",
            "optimizer",
            "checkpointing",
            "rank",
            "bits",
        )
    }
    settings |= {
        "precision": command.precision or (machine.default_precision() if command.gpu else "float32")
    }
    settings |= {
        "teacher": teacher or None,
        "n_new_tokens": command.new_tokens,
        "group_size": command.group_size,
    }
    settings |= {"n_rows": command.n_sequences} if command.method == "inference" else {}
    return run_of(config, settings | {"n_devices": command.n_gpus, "sharding": command.sharding})


def _size(command: PlanCommandConfig) -> None:
    from parakit.planning.best_size import tokens_per_parameter
    from parakit.planning.choices import parse_count, with_fitting_rows
    from parakit.planning.run_plan import plan_run

    machine = machine_of(command)
    spec = _run(command, machine, command.size or "")
    n_active = spec.config.n_active_params()
    default = tokens_per_parameter(n_active) * n_active if command.method == "pretrain" else TUNING_TOKENS
    default = 1000.0 if command.method == "inference" else default
    n_tokens = parse_count(command.tokens, "--tokens") if command.tokens else default
    if command.micro_batch_size is None:
        spec = with_fitting_rows(spec, machine)
    _show(command, plan_run(spec, machine, n_tokens, **_prices(command)))


def _best(command: PlanCommandConfig) -> None:
    """The best model in a time, or for an amount of money."""
    from parakit.planning.best_size import best_in_time
    from parakit.planning.choices import parse_money, with_fitting_rows
    from parakit.planning.costs import hourly_price
    from parakit.recipe.config import parse_time

    machine = machine_of(command)
    if command.time:
        seconds = parse_time(command.time)
    else:
        seconds = 3600 * parse_money(command.budget or "") / hourly_price(machine, command.price_per_hour)

    def spec_of_size(size: int) -> "RunSpec | None":
        try:
            spec = _run(command, machine, size)
        except UserError:  # no shape of that size has the vocabulary
            return None
        return with_fitting_rows(spec, machine) if command.micro_batch_size is None else spec

    _run(command, machine, "10m" if command.vocab_size is None else 10**9)  # faults of the other flags show
    _show(command, best_in_time(seconds, machine, spec_of_size, **_prices(command)))


def _memory(command: PlanCommandConfig) -> None:
    from parakit.cli.rendering.plans.tables import show_memory_rows
    from parakit.common.byte_counts import parse_bytes
    from parakit.planning.best_size import best_in_memory

    machine, n_bytes = machine_of(command), parse_bytes(command.memory or "", "memory")

    def spec_of_size(size: int) -> "RunSpec | None":
        try:
            return _run(command, machine, size)
        except UserError:
            return None

    methods: tuple[PlanMethod, ...] = ("pretrain", "full", "dpo", "grpo", "lora", "qlora", "inference")
    if command.family != "decoder":
        methods = ("pretrain", "full", "lora")
    rows = best_in_memory(n_bytes, machine, spec_of_size, methods)
    if command.as_json:
        found = [
            {
                "method": row.method,
                "parameters": row.config.n_params()["total"],
                "peak": row.peak_bytes,
                "note": row.note,
            }
            for row in rows
        ]
        print(json.dumps({"memory_bytes": n_bytes, "machine": machine.title, "largest": found}))
    else:
        show_memory_rows(rows, n_bytes, machine, Console())


def _text(command: PlanCommandConfig) -> None:
    from parakit.cli.rendering.plans.tables import show_bills
    from parakit.planning.costs import bills, price_lists
    from parakit.stages.planning.text_tokens import count_tokens

    names, own = price_lists(command.prices)
    text = count_tokens(command.text or "", command.tokenizer)
    found = bills(text, command.output_share, names, own)
    if command.as_json:
        rows = [
            {
                "name": one.name,
                "usd": one.usd,
                "low": one.low,
                "high": one.high,
                "price": one.price.model_dump(),
            }
            for one in found
        ]
        print(json.dumps({"tokens": vars(text), "output_share": command.output_share, "bills": rows}))
    else:
        show_bills(text, found, command.output_share, Console())


def _recipe(command: PlanCommandConfig) -> None:
    from parakit.cli.rendering.plans.tables import show_stages
    from parakit.recipe.builder import load_recipe
    from parakit.recipe.planning import plan_recipe

    machine = machine_of(command)
    stages = plan_recipe(load_recipe(command.recipe or ""), machine, prices=_prices(command))
    if command.as_json:
        print(json.dumps({"machine": machine.title, "stages": [stage.to_json() for stage in stages]}))
    else:
        show_stages(stages, machine, Console())


def _prices(command: PlanCommandConfig) -> dict[str, float | None]:
    return {"price_per_hour": command.price_per_hour, "price_per_kwh": command.price_per_kwh}


def _show(command: PlanCommandConfig, plan: "RunPlan") -> None:
    from parakit.cli.rendering.plans.tables import show_plan

    if command.as_json:
        print(json.dumps(plan.to_json()))
    else:
        show_plan(plan, Console())
