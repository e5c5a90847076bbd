"""What a sweep will do: its runs, each with the recipe that it is built from, and the stages that they share.

A sweep of the build NAME is in its folder: `sweep/plan.json`, the report and the tables, and every run as a build of its
own in `runs/RUN`. Each run is built from the recipe in the plan and from nothing else, so what is printed is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_checked_json, write_checked_json
from parakit.data.fetching.fetching import fetch_named
from parakit.recipe.build_state import PLAN, RUNS, SWEEP, SharedStages
from parakit.recipe.builder import check_recipe
from parakit.recipe.config import RecipeConfig
from parakit.recipe.graph import Build, Decision, Stage, planned_keys
from parakit.recipe.stage_list import stages_of
from parakit.recipe.sweeps.grid import (
    Seeds,
    Values,
    check_varied,
    label,
    run_name,
    seed_numbers,
    settings_of,
)

LOCKS = ".locks"


@dataclass(frozen=True)
class SweepRun:
    """One build of a sweep; `recipe` has the run's name."""

    name: str
    seed: int
    values: Values
    recipe: RecipeConfig = field(compare=False)

    def to_dict(self) -> JsonObject:
        """As plain data: the recipe with what was set."""
        recipe = self.recipe.model_dump(mode="json", exclude_unset=True)
        return {"name": self.name, "seed": self.seed, "values": dict(self.values), "recipe": recipe}


@dataclass(frozen=True)
class Sweep:
    """A recipe over seeds and values. `folder`: that of the build; `varied`: the values of each key."""

    name: str
    folder: Path
    varied: Mapping[str, Sequence[Any]]
    seeds: tuple[int, ...]
    runs: tuple[SweepRun, ...]

    @property
    def place(self) -> Path:
        """The folder of the plan, the report and the tables."""
        return self.folder / SWEEP

    @property
    def settings(self) -> list[Values]:
        """Every combination of values, in order."""
        return settings_of(self.varied, len(self.seeds))

    def build_folder(self, run: str) -> Path:
        """Of a run."""
        return self.folder / RUNS / run

    @cached_property
    def stages(self) -> dict[str, list[Stage]]:
        """The stages of each run."""
        return {run.name: stages_of(run.recipe, self.build_folder(run.name)) for run in self.runs}

    @cached_property
    def keys(self) -> dict[str, dict[str, str]]:
        """What decides each stage of each run: the same in two runs, if the stage is."""
        return {name: planned_keys(stages) for name, stages in self.stages.items()}

    @cached_property
    def makers(self) -> dict[str, str]:
        """The first run that has a stage, by the stage's key: it makes it, and the others take it."""
        makers: dict[str, str] = {}
        for name, keys in self.keys.items():
            for key in keys.values():
                makers.setdefault(key, name)
        return makers

    def decisions(self, run: str) -> list[Decision]:
        """What is done about each stage of a run, and why."""
        found = []
        for decision in Build(self.build_folder(run), self.stages[run]).plan():
            maker = self.makers[self.keys[run][decision.stage.name]]
            if decision.run and maker != run:
                decision = Decision(decision.stage, False, f"taken from {maker}")
            found.append(decision)
        return found

    def is_finished(self, run: str) -> bool:
        """Whether all of a run is up to date."""
        if not (self.build_folder(run) / "summary.json").is_file():
            return False
        return not any(one.run for one in Build(self.build_folder(run), self.stages[run]).plan())

    def shared_stages(self) -> SharedStages:
        """What a run takes from the others."""
        return SharedStages([self.build_folder(run.name) for run in self.runs], self.place / LOCKS)

    def to_dict(self) -> JsonObject:
        """As plain data."""
        return {
            "name": self.name,
            "varied": {key: list(values) for key, values in self.varied.items()},
            "seeds": list(self.seeds),
            "runs": [run.to_dict() for run in self.runs],
        }

    def write(self) -> None:
        """Write the plan, from which the runs are built."""
        self.check_folder()
        self.place.mkdir(parents=True, exist_ok=True)
        write_checked_json(self.place / PLAN, self.to_dict())

    def check_folder(self) -> None:
        """`UserError` where the folder's plan has runs that this one lacks or builds from another recipe, or where the
        folder has files of something else.
        """
        if not (self.place / PLAN).is_file():
            for name in (SWEEP, RUNS):
                inside = (self.folder / name).glob("*")
                if any(not path.name.startswith(".") for path in inside):
                    raise UserError(
                        f"{self.folder / name}: exists already, and no sweep wrote it",
                        "choose another name (--name), or another folder (--builds)",
                    )
            return
        rows = {run["name"]: run for run in self.to_dict()["runs"]}
        for earlier in read_sweep(self.folder).to_dict()["runs"]:
            if (row := rows.get(earlier["name"])) is None:
                what = f"the run {earlier['name']} is not among these"
            elif row["recipe"] == earlier["recipe"]:
                continue
            else:
                what = f"{earlier['name']}: {_differences(earlier['recipe'], row['recipe'])}"
            raise UserError(
                f"{self.folder}: holds a sweep with another plan: {what}",
                "choose another name (--name); a sweep takes further seeds and values where the earlier ones stay",
            )


def plan_sweep(
    make_recipe: Callable[[Mapping[str, Any]], RecipeConfig],
    builds: Path,
    seeds: Seeds | None,
    varied: Mapping[str, Sequence[Any]],
    fetch: bool = False,
) -> Sweep:
    """The sweep of the recipe that `make_recipe` makes with dotted keys laid over it. `seeds`: as in `seed_numbers`; `varied`:
    the values of each key; `fetch`: save first what the recipes name on the network. `UserError` for a recipe that cannot be
    built, and for two runs that would be the same.
    """
    check_varied(varied)
    first = make_recipe(settings_of(varied, 1)[0])
    numbers = seed_numbers(seeds, first.seed)
    runs = [
        _run(make_recipe({**values, "seed": seed}), values, seed)
        for values in settings_of(varied, len(numbers))
        for seed in numbers
    ]
    for run in runs:
        for config in (run.recipe.text, run.recipe.replay) if fetch else ():
            if config is not None:
                fetch_named(config)
        check_recipe(run.recipe)
    sweep = Sweep(first.name, builds / first.name, varied, numbers, tuple(runs))
    _refuse_equal(sweep)
    return sweep


def read_sweep(folder: Path) -> Sweep:
    """The sweep in the folder of a build."""
    hint = f"delete {folder / SWEEP} and repeat the command"
    plan = read_checked_json(folder / SWEEP / PLAN, hint)
    runs = tuple(
        SweepRun(row["name"], row["seed"], row["values"], RecipeConfig.parse(row["recipe"], row["name"]))
        for row in plan["runs"]
    )
    varied = {key: tuple(values) for key, values in plan["varied"].items()}
    return Sweep(plan["name"], folder, varied, tuple(plan["seeds"]), runs)


def is_sweep(folder: Path) -> bool:
    """Whether the folder of a build has a sweep."""
    return (folder / SWEEP / PLAN).is_file()


def _run(recipe: RecipeConfig, values: Values, seed: int) -> SweepRun:
    name = run_name(values, seed)
    plain = recipe.model_dump(mode="json", exclude_unset=True) | {"name": name}
    return SweepRun(name, seed, values, RecipeConfig.parse(plain, label(values) or "settings"))


def _refuse_equal(sweep: Sweep) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for run in sweep.runs:
        same = seen.setdefault(tuple(sweep.keys[run.name].values()), run.name)
        if same != run.name:
            raise UserError(
                f"{same} and {run.name} are the same build: nothing that differs between them has an effect",
                "vary a setting that has one; a stage with a seed of its own does not follow the recipe's",
            )


def _differences(earlier: JsonObject, now: JsonObject) -> str:
    one, other = _flat(earlier), _flat(now)
    changed = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    words = [f"{key} is {one.get(key, 'not set')} there, {other.get(key, 'not set')} here" for key in changed]
    return "; ".join(words[:3]) + (f"; {len(words) - 3} more" if len(words) > 3 else "")


def _flat(value: Any, key: str = "") -> JsonObject:
    if isinstance(value, Mapping) and value:
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{key}.{name}").items()}
    return {key.lstrip("."): value}
