"""Tables of plans: of one run, of a recipe's stages, of what fits into a memory, and of an API's bill."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.common.formatting import MISSING, byte_size, compact, long_duration, number, percent

if TYPE_CHECKING:
    from parakit.planning.best_size import MemoryRow
    from parakit.planning.costs import Bill, TextTokens
    from parakit.planning.machines import Machine
    from parakit.planning.run_plan import RunPlan
    from parakit.recipe.planning import StagePlan


def show_plan(plan: "RunPlan", console: Console) -> None:
    """Print everything that is predicted of a run."""
    spec = plan.spec
    how = f"{spec.optimizer}, {spec.precision}" if spec.trains else f"{spec.bits}-bit weights"
    line = f"{spec.describe()}, {how}, on {_machine(plan.machine)}"
    console.print(escape(line), highlight=False, soft_wrap=True)
    _parameters(plan, console)
    _memory(plan, console)
    _run(plan, console)
    for line in _notes(plan):
        console.print(escape(line), highlight=False, soft_wrap=True)


def show_stages(stages: Sequence["StagePlan"], machine: "Machine", console: Console) -> None:
    """Print one line for each stage of a recipe, and the sum."""
    console.print(escape(f"on {_machine(machine)}"), highlight=False, soft_wrap=True)
    table = _table("stage", "parameters", "trained", "steps", "tokens", "peak memory", "time", "fits")
    for stage in stages:
        table.add_row(*stage_cells(stage))
    console.print(table)
    for stage in stages:
        for note in stage.notes:
            console.print(escape(f"{stage.name}: {note}"), highlight=False, soft_wrap=True)
    known = [stage.plan for stage in stages if stage.plan]
    if known:
        usd = [plan.cost.rent_usd for plan in known if plan.cost.rent_usd is not None]
        money = f", {_usd(sum(usd))}" if usd else ""
        console.print(
            f"training in all: {long_duration(sum(plan.seconds for plan in known))}{money}", highlight=False
        )


def stage_cells(stage: "StagePlan") -> list[str]:
    """What a table says of one stage."""
    plan = stage.plan
    if plan is None:
        return [stage.name, *[MISSING] * 7]
    fits = "yes" if plan.fit.fits else f"no; {plan.fit.change or 'nothing near it does'}"
    return [
        stage.name,
        compact(plan.spec.n_parameters),
        compact(plan.spec.n_trained),
        number(plan.n_steps),
        compact(plan.n_tokens),
        byte_size(plan.memory.peak),
        long_duration(plan.seconds),
        fits,
    ]


def show_memory_rows(
    rows: Sequence["MemoryRow"], n_bytes: float, machine: "Machine", console: Console
) -> None:
    """Print the largest model of each method."""
    console.print(
        escape(f"the largest models in {byte_size(n_bytes)} on {machine.title}"),
        highlight=False,
        soft_wrap=True,
    )
    table = _table("method", "parameters", "layers", "width", "peak memory", "with")
    for row in rows:
        config = row.config
        table.add_row(
            row.method,
            compact(config.n_params()["total"]),
            number(config.n_layers),
            number(config.d_model),
            byte_size(row.peak_bytes),
            row.note,
        )
    console.print(table)


def show_bills(text: "TextTokens", found: Sequence["Bill"], output_share: float, console: Console) -> None:
    """Print the tokens of a text, and what each price list makes of them."""
    span = f" ({compact(text.low)} to {compact(text.high)})" if text.low != text.high else ""
    console.print(
        escape(f"{byte_size(text.n_bytes)} of text, {compact(text.n)} tokens{span}; {text.counted_by}"),
        highlight=False,
        soft_wrap=True,
    )
    table = _table("price list", "read, $ per M", "write, $ per M", "bill", "from", "to", "source")
    for one in found:
        bounds = (_usd(one.low), _usd(one.high)) if text.low != text.high else ("", "")
        table.add_row(
            one.name,
            f"{one.price.input:g}",
            f"{one.price.output:g}",
            _usd(one.usd),
            *bounds,
            escape(one.price.origin()),
        )
    console.print(table)
    written = f"and writing {output_share:g} tokens for each" if output_share else "once"
    console.print(f"reading the text {written}; prices change, see their dates", highlight=False)


def _machine(machine: "Machine") -> str:
    count = f"{machine.n_devices} x " if machine.n_devices > 1 else ""
    if machine.is_measured:
        return f"{count}{machine.title}, {compact(machine.peak_flops['float32'])}FLOP/s measured"
    return f"{count}{machine.title} ({machine.source}), {percent(machine.utilization)} of its peak"


def _parameters(plan: "RunPlan", console: Console) -> None:
    parts = plan.spec.config.n_params()
    table = _table("parameters", "", "share")
    for name, n in parts.items():
        if n and name != "total":
            table.add_row(name.replace("_", " "), f"{n:,}", percent(n / parts["total"]))
    table.add_row("total", f"{parts['total']:,}", "")
    if (active := plan.spec.config.n_active_params()) != parts["total"]:
        table.add_row("active for a token", f"{active:,}", percent(active / parts["total"]))
    if 0 < plan.spec.n_trained < parts["total"]:
        table.add_row("trained", f"{plan.spec.n_trained:,}", percent(plan.spec.n_trained / parts["total"]))
    console.print(table)


def _memory(plan: "RunPlan", console: Console) -> None:
    table = _table("memory of one device", "")
    for name, n in plan.memory.parts().items():
        table.add_row(name.replace("_", " "), byte_size(n))
    table.add_row("peak", byte_size(plan.memory.peak))
    table.add_row("can be used", byte_size(plan.fit.available_bytes))
    console.print(table)


def _run(plan: "RunPlan", console: Console) -> None:
    table = _table("run", "each step", "all")
    unit = "steps" if plan.spec.trains else "tokens of each sequence"
    table.add_row(unit, "", number(plan.n_steps))
    per_step = plan.spec.n_tokens if plan.spec.trains else plan.spec.n_rows
    table.add_row("tokens", number(per_step), compact(plan.n_tokens))
    table.add_row("operations", _flops(plan.operations.total), _flops(plan.n_steps * plan.operations.total))
    table.add_row("time", _seconds(plan.step.total), long_duration(plan.seconds))
    table.add_row("tokens per second", compact(plan.tokens_per_second), "")
    if plan.cost.kilowatt_hours is not None:
        table.add_row("energy", "", f"{number(plan.cost.kilowatt_hours)} kWh")
        table.add_row("electricity", "", _usd(plan.cost.energy_usd))
    if plan.cost.rent_usd is not None:
        table.add_row(f"rent ({plan.cost.price})", "", _usd(plan.cost.rent_usd))
    console.print(table)


def _notes(plan: "RunPlan") -> list[str]:
    lines = []
    if plan.spec.trains:
        six = 6.0 * plan.spec.config.n_active_params() * plan.n_tokens
        lines.append(f"by the rule 6 N D: {_flops(six)} operations")
    if plan.needed:
        needed = plan.needed
        lines.append(
            f"tokens for this size: {compact(needed.chinchilla)} (Chinchilla, 20 a parameter), {compact(needed.besiroglu)}"
            f" (Besiroglu et al. 2024), {compact(needed.kaplan)} (Kaplan et al. 2020)"
        )
    if plan.expected:
        loss = plan.expected
        beyond = "; outside of the sizes and data that the law was fitted to" if loss.is_extrapolated else ""
        lines.append(
            f"expected loss: {loss.loss:.2f} nats a token ({loss.low:.2f} to {loss.high:.2f}) on the text of {loss.law}{beyond}"
        )
    if plan.fit.fits:
        lines.append("it fits")
    elif plan.fit.change:
        lines.append(f"it does not fit; the nearest that does: {plan.fit.change}")
    else:
        lines.append(
            "it does not fit, and nothing near it does: take a smaller model or a machine with more memory"
        )
    return lines


def _table(*headings: str) -> Table:
    table = Table(*headings, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right" if column.header not in ("with", "fits", "source") else "left"
    return table


def _flops(value: float) -> str:
    return f"{value:.3g}"


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if value < 1 else long_duration(value)


def _usd(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${value:.2g}"
