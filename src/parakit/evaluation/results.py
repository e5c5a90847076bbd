"""The result of one benchmark: its scores with intervals, the protocol that they belong to, and every item.

`BenchmarkResult` is what every evaluation of items gives: the harness's tasks, minimal pairs, retrieval, refusals. An
evaluation folder holds it without its items in `results.json`, under `benchmarks` by name, and the items in
`items/NAME.jsonl`, one a line. Scores can only be compared where `Protocol.differences` finds nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parakit.common.artifacts import Artifact, open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json, write_text_atomic
from parakit.evaluation.intervals import Estimate, bootstrap_mean, wilson_interval

RESULTS = "results.json"
"""The file of all figures, inside an evaluation folder."""
PROGRAM = "parakit 1"
"""What computes Parakit's own scores; the number changes where equal answers would get other scores."""
ITEMS = "items"
"""The folder of the items, inside an evaluation folder."""
MODELS = "models"
"""The folder of the evaluation of each model, inside that of all models of a build."""


@dataclass(frozen=True)
class Protocol:
    """All that decides a score besides the model; two scores belong to one scale only where it is equal."""

    task: str
    version: str
    """Of the task's definition."""
    program: str
    """What computed the scores, with its version: `lm-eval 0.4.13`, `parakit 1`."""
    data_digest: str
    """Of the data that the items were read from."""
    prompts_digest: str
    """Of every prompt as the model got it, before its tokenizer."""
    n_shots: int = 0
    prompting: str = "plain"
    """plain or chat: the chat template."""
    system_prompt: str | None = None
    split: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further ones: of generated text, of the choice of items."""

    def differences(self, other: Protocol) -> dict[str, tuple[Any, Any]]:
        """What differs from `other`, by field."""
        mine, its = dataclasses.asdict(self), dataclasses.asdict(other)
        return {name: (mine[name], its[name]) for name in mine if mine[name] != its[name]}


@dataclass(frozen=True)
class Item:
    """One question of a benchmark and its scores by metric; a metric may be missing for an item that it does not count."""

    id: str
    """Names the item inside its benchmark, the same for every model."""
    prompt: str
    """The item's own text: without shots, system prompt and chat template, so that it can be searched in training text."""
    target: str
    """The right answer as text; of a choice, the choice itself rather than its letter where both are known."""
    answer: str
    scores: Mapping[str, float]
    group: str | None = None
    """Of a benchmark with parts: subject, phenomenon, depth."""


@dataclass(frozen=True)
class Score:
    """A metric's value over all items, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    higher_is_better: bool = True


@dataclass(frozen=True)
class BenchmarkResult:
    """One model on one benchmark. `main` names the score that stands for it."""

    protocol: Protocol
    scores: Mapping[str, Score]
    main: str
    n: int
    items: tuple[Item, ...] = ()
    n_truncated: int = 0
    """Items whose prompt was longer than the context window and lost its beginning."""
    groups: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    contamination: JsonObject | None = None

    def without_items(self) -> JsonObject:
        """As plain data, for results.json."""
        found = dataclasses.asdict(dataclasses.replace(self, items=()))
        del found["items"]
        return found


def summarize_items(
    protocol: Protocol,
    items: Sequence[Item],
    main: str,
    *,
    lower_is_better: Iterable[str] = (),
    n_truncated: int = 0,
) -> BenchmarkResult:
    """The mean of every metric over its items, with Wilson's interval where all values are 0 or 1 and the bootstrap's where
    they are not; the same by group.
    """
    lower = frozenset(lower_is_better)
    groups = sorted({item.group for item in items if item.group is not None})
    return BenchmarkResult(
        protocol,
        _scores(items, lower),
        main,
        len(items),
        tuple(items),
        n_truncated,
        {group: _scores([item for item in items if item.group == group], lower) for group in groups},
    )


def digest(parts: Iterable[str]) -> str:
    """Of texts in their order, 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()


def write_items(folder: Path, name: str, items: Iterable[Item]) -> None:
    """Write `items/NAME.jsonl` inside an evaluation folder that is being made."""
    lines = [json.dumps(dataclasses.asdict(item), ensure_ascii=False) for item in items]
    (folder / ITEMS).mkdir(exist_ok=True)
    write_text_atomic(folder / ITEMS / f"{name}.jsonl", "".join(line + "\n" for line in lines))


def plain_benchmarks(benchmarks: Mapping[str, BenchmarkResult]) -> JsonObject:
    """Results by name as they are in results.json."""
    return {name: one.without_items() for name, one in benchmarks.items()}


def open_evaluation(folder: str | Path, hint: str) -> tuple[Artifact, JsonObject]:
    """An evaluation of one model, and the content of its results.json. `UserError` for another folder, and with `hint` for
    the evaluation of all models of a build that has none of each.
    """
    artifact = open_artifact(folder, "evaluation")
    results = read_json(artifact.path / RESULTS)
    if "suite_mean" in results:
        inside = sorted(path.as_posix() for path in (artifact.path / MODELS).glob("*"))
        hint = f"name that of one model: {', '.join(inside)}" if inside else hint
        raise UserError(f"{folder}: is the evaluation of all models of a build", hint)
    return artifact, results


def read_benchmarks(folder: Path, results: Mapping[str, Any]) -> dict[str, BenchmarkResult]:
    """All benchmarks of an evaluation folder with their items, by name."""
    return {name: read_result(folder, name, results) for name in results.get("benchmarks") or {}}


def read_result(folder: Path, name: str, results: Mapping[str, Any]) -> BenchmarkResult:
    """A benchmark of an evaluation folder with its items; `results`: the content of its results.json."""
    found = dict(results["benchmarks"][name])
    path = folder / ITEMS / f"{name}.jsonl"
    items = tuple(Item(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line)
    scores = {key: Score(**value) for key, value in found.pop("scores").items()}
    groups = {
        group: {key: Score(**value) for key, value in one.items()}
        for group, one in found.pop("groups").items()
    }
    return BenchmarkResult(Protocol(**found.pop("protocol")), scores, items=items, groups=groups, **found)


def _scores(items: Sequence[Item], lower_is_better: frozenset[str]) -> dict[str, Score]:
    names = dict.fromkeys(name for item in items for name in item.scores)
    return {
        name: _score([i.scores[name] for i in items if name in i.scores], name not in lower_is_better)
        for name in names
    }


def _score(values: Sequence[float], higher_is_better: bool) -> Score:
    array = np.asarray(values, dtype=float)
    if np.isin(array, (0.0, 1.0)).all():
        low, high = wilson_interval(int(array.sum()), len(array))
        found = Estimate(float(array.mean()), low, high)
    else:
        found = bootstrap_mean(array)
    return Score(found.value, found.low, found.high, len(array), higher_is_better)
