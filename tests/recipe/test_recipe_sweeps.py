"""Sweeps: what runs are planned, what they share, that a run equals the single build, and what happens when one fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.common import UserError, open_artifact
from parakit.recipe import build, load_recipe
from parakit.recipe.graph import planned_keys
from parakit.recipe.stage_list import stages_of
from parakit.recipe.sweeps.child import build_run
from parakit.recipe.sweeps.grid import (
    MAX_RUNS,
    check_varied,
    parse_seeds,
    parse_vary,
    run_name,
    seed_numbers,
    settings_of,
)
from parakit.recipe.sweeps.plan import Sweep, plan_sweep, read_sweep
from parakit.recipe.sweeps.running import environment, run_sweep

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


class Ended:
    """A run that was built at once, in this process."""

    stdin = None

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status

    def wait(self, timeout: float | None = None) -> int:
        return self.status

    def kill(self) -> None:
        raise AssertionError("it has ended")


def here(sweep: Sweep, run: str, place: int, parallel: int) -> Ended:
    """Begins a run in this process."""
    return Ended(build_run(sweep.folder, run))


@pytest.fixture
def make(text_recipe) -> Callable:
    """A recipe with dotted keys laid over it."""
    return lambda overrides: text_recipe(
        **{key.replace(".", "__"): value for key, value in overrides.items()}
    )


def test_seeds_are_a_number_or_a_list():
    assert seed_numbers(None, 4) == (4,)
    assert seed_numbers(parse_seeds("3"), 4) == (4, 5, 6)
    assert seed_numbers(parse_seeds("3,7, 11"), 0) == seed_numbers([3, 7, 11], 0) == (3, 7, 11)
    assert seed_numbers([7], 0) == (7,)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1,x", "3,3", "", "1001", "1.5"])
def test_seeds_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="seed"):
        seed_numbers(parse_seeds(text), 0)


def test_values_are_read_as_yaml():
    assert parse_vary(["a.b=0.01,1e-3", "size=1m,2m", "c=[x, y],[z]", "d=true,null"]) == {
        "a.b": (0.01, 0.001),
        "size": ("1m", "2m"),
        "c": (["x", "y"], ["z"]),
        "d": (True, None),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "is not KEY=VALUE,VALUE"),
        (["a="], "is not KEY=VALUE,VALUE"),
        (["a=1", "a=2"], "is given twice"),
        (["a=1,1.0,1"], "the value 1 is there twice"),
        (["a=[1"], "not readable as YAML values"),
        (["seed=1,2"], "a setting of their own"),
        (["name=a,b"], "named after their values"),
    ],
)
def test_values_that_are_none_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        check_varied(parse_vary(words))


def test_a_grid_has_a_limit():
    varied = {"a": tuple(range(20)), "b": tuple(range(10))}
    assert len(settings_of(varied, MAX_RUNS // 200)) == 200
    with pytest.raises(UserError, match=r"20 x 10 x 6 are 1,200 runs, 1,000 at most"):
        settings_of(varied, 6)


def test_every_run_has_a_folder_of_its_own():
    settings = [
        {"a.x": 1},
        {"a.x": -1},
        {"a.x": "1/2"},
        {"a.x": "1?2"},
        {"a.x": "b" * 300},
        {"a.x": "b" * 301},
        {},
    ]
    settings += [{"a.x": 1, "b.x": 2}, {"a.x": [1, 2]}, {"a.x": "ä"}, {"a.x": "../up"}]
    names = [run_name(values, 3) for values in settings]
    assert len(set(names)) == len(names)
    assert names[0] == "x-1-seed-3"
    assert names[6] == "seed-3"
    assert names[7] == "a.x-1-b.x-2-seed-3"
    assert all(len(name) <= 100 and "/" not in name and name[0].isalnum() for name in names)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_in_the_plan_is_the_recipe(path, tmp_path, monkeypatch):
    """Written down and read again, every stage has the same settings as in a build of the file itself."""
    monkeypatch.setattr("parakit.recipe.sweeps.plan.check_recipe", lambda recipe: None)
    sweep = plan_sweep(lambda overrides: load_recipe(path, overrides), tmp_path, 2, {})
    for run in sweep.runs:
        recipe = load_recipe(path, {"seed": run.seed})
        direct = planned_keys(stages_of(recipe, tmp_path / "elsewhere"))
        assert sweep.keys[run.name] == direct
    one, other = sweep.keys.values()
    shared = {stage for stage in one if one[stage] == other[stage]}
    trained = {"pretrain", "finetune", "dpo", "distill", "evaluate", "reward", "ppo", "grpo"} & set(one)
    assert trained.isdisjoint(shared)
    assert {"corpus", "tokenizer", "shards", "start"} & set(one) <= shared


def test_runs_share_what_does_not_differ_and_equal_single_builds(make, tmp_path, capsys):
    sweep = plan_sweep(make, tmp_path / "builds", 2, {"pretrain.learning_rate": [0.01, 0.02]})
    names = [run.name for run in sweep.runs]
    assert names == [f"learning_rate-{rate}-seed-{seed}" for rate in (0.01, 0.02) for seed in (0, 1)]
    planned = {name: {d.stage.name: (d.run, d.reason) for d in sweep.decisions(name)} for name in names}
    assert all(run for run, _ in planned[names[0]].values())
    for name in names[1:]:
        taken = {stage for stage, (_, why) in planned[name].items() if why == f"taken from {names[0]}"}
        assert taken == {"corpus", "tokenizer", "shards"}
    outcomes = run_sweep(sweep, start=here)
    assert [(one.run, one.status) for one in outcomes] == [(name, "done") for name in names]
    digests = {}
    for run in sweep.runs:
        folder = sweep.build_folder(run.name)
        # the settings that were used are those that were printed
        used = json.loads((folder / "recipe.json").read_text())
        assert used == run.recipe.model_dump(mode="json")
        assert used["seed"] == run.seed
        assert used["pretrain"]["learning_rate"] == run.values["pretrain.learning_rate"]
        ids = {stage: (folder / stage / "lineage.json").stat().st_ino for stage in planned[run.name]}
        digests[run.name] = {stage: open_artifact(folder / stage).digest for stage in ids}
        first = sweep.build_folder(names[0])
        same = {stage for stage in ids if ids[stage] == (first / stage / "lineage.json").stat().st_ino}
        assert same == ({"corpus", "tokenizer", "shards"} if run.name != names[0] else set(ids))
    assert len({digests[name]["pretrain"] for name in names}) == 4
    last = sweep.runs[-1]
    build(make({**last.values, "seed": last.seed}), tmp_path / "single")
    for stage in ("corpus", "tokenizer", "shards"):
        assert open_artifact(tmp_path / "single/mine" / stage).digest == digests[last.name][stage]
    weights = [
        (folder / "pretrain/model.safetensors").read_bytes()
        for folder in (tmp_path / "single/mine", sweep.build_folder(last.name))
    ]
    assert weights[0] == weights[1]
    capsys.readouterr()
    # the second call finds everything done
    begun = []
    assert all(one.message == "up to date" for one in run_sweep(sweep, start=lambda *run: begun.append(run)))
    assert begun == []
    assert all(d.reason == "up to date" for name in names for d in sweep.decisions(name))


def test_further_seeds_take_what_is_there_and_another_plan_is_refused(make, tmp_path):
    builds = tmp_path / "builds"
    run_sweep(plan_sweep(make, builds, 1, {}), start=here)
    more = plan_sweep(make, builds, 2, {})
    why = {name: [d.reason for d in more.decisions(name)] for name in ("seed-0", "seed-1")}
    assert set(why["seed-0"]) == {"up to date"}
    assert why["seed-1"][:3] == ["taken from seed-0"] * 3
    with pytest.raises(UserError, match="the run seed-0 is not among these"):
        plan_sweep(make, builds, [3, 4], {}).check_folder()
    with pytest.raises(UserError, match=r"seed-0: pretrain\.max_steps is 6 there, 7 here"):
        plan_sweep(lambda o: make({**o, "pretrain.max_steps": 7}), builds, 2, {}).check_folder()
    assert [run.name for run in read_sweep(builds / "mine").runs] == ["seed-0"]
    # the single build of the same name may be next to it
    build(make({}), builds)
    assert (builds / "mine/pretrain").is_dir()


def test_a_failing_run_stops_no_other_and_is_not_repeated_elsewhere(make, tmp_path, monkeypatch):
    sweep = plan_sweep(make, tmp_path / "builds", 3, {})
    from parakit.stages import pretraining

    run_job = pretraining.PretrainJob

    def broken(**settings):
        if settings["training"].seed == 1:
            raise RuntimeError("boom")
        return run_job(**settings)

    with monkeypatch.context() as patched:
        patched.setattr(pretraining, "PretrainJob", broken)
        outcomes = run_sweep(sweep, start=here)
    assert [one.status for one in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].message == "pretrain: RuntimeError: boom"
    again = run_sweep(sweep, start=here)
    assert [one.message for one in again] == ["up to date", "", "up to date"]
    # a stage that all need fails once
    sweep = plan_sweep(lambda o: make({**o, "name": "other"}), tmp_path / "builds", 3, {})
    from parakit.stages import data

    def spilt(*_, **__):
        raise UserError("spilt", "wipe it")

    with monkeypatch.context() as patched:
        patched.setattr(data, "make_tokenizer", spilt)
        outcomes = run_sweep(sweep, start=here)
    assert outcomes[0].message.startswith("tokenizer: spilt")
    assert [one.message for one in outcomes[1:]] == ["needs tokenizer, which failed in seed-0"] * 2


def test_runs_that_would_be_the_same_are_refused(make, tmp_path):
    with pytest.raises(UserError, match="seed-0 and seed-1 are the same build"):
        plan_sweep(lambda o: make({**o, "pretrain.seed": 3}), tmp_path, 2, {})


def test_an_unknown_key_names_the_closest(make, tmp_path):
    with pytest.raises(UserError, match=r"pretrain\.learning_rat") as raised:
        plan_sweep(make, tmp_path, 2, {"pretrain.learning_rat": [0.1]})
    assert "learning_rate" in raised.value.hint
    with pytest.raises(UserError, match="max_steps"):
        plan_sweep(make, tmp_path, 2, {"pretrain.max_steps": [3, "many"]})


def test_runs_at_once_share_the_cores_and_the_accelerators():
    chosen = environment({}, 3, 2, 2)
    assert int(chosen["OMP_NUM_THREADS"]) >= 1
    assert chosen["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment({"OMP_NUM_THREADS": "7"}, 0, 2, 1) == {"OMP_NUM_THREADS": "7"}
    assert environment({}, 0, 1, 4) == {}
