"""Which runs saw a document of a corpus, at which steps, and where in the batch.

A batch is a pure function of the plan's seed and the step, and the documents of token shards are the rows of the corpus in
their order, so that a finished run's lineage is enough: its plan, its objective and its shards. Distillation from cached
or sampled rows, and what alignment does, is not traced. The learning of a tokenizer reads the training split as a whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from parakit.common.artifacts import read_lineage
from parakit.common.files import JsonObject
from parakit.common.lineages import made_from, shards_of
from parakit.tokens.batches.batch import Occurrence
from parakit.tokens.batches.mixture import MixedSource
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.shards import TokenShards
from parakit.training.config import TrainingPlan
from parakit.training.row_sources import lengths_of, text_rows

TRACED = ("next_token", "prefix", "masked", "span_corruption")


def runs_that_saw(
    corpus: Path, split: str, number: int, folders: Sequence[Path] = (), runs: Sequence[Path] | None = None
) -> list[JsonObject]:
    """An entry for each run on token shards of `corpus` that is found next to it or in `folders` (or is one of `runs`):
    {"run", "stage", "shards", "n_steps", "times", "tokens", "steps": [{step, row, column, first_token, n_tokens, epoch}]},
    steps counted from 1, rows in the step's batch and columns from 0. A run that cannot be traced has "why" instead.
    """
    entries = []
    for shards in shards_of(corpus, folders):
        for path, lineage in made_from(shards, folders):
            if lineage.get("kind") not in ("model", "adapter") or (runs is not None and path not in runs):
                continue
            entries.append(_entry(path, lineage, shards, split, number))
    return entries


def _entry(path: Path, lineage: JsonObject, shards: Path, split: str, number: int) -> JsonObject:
    config, result = lineage["config"], lineage.get("result") or {}
    entry: JsonObject = {"run": str(path), "stage": config.get("stage"), "shards": str(shards)}
    if split != "train":
        return entry | {"why": f"it is in the {split} split, which no step reads"}
    if (
        config.get("stage") not in ("pretrain",)
        or config.get("objective") not in TRACED
        or "plan" not in config
    ):
        return entry | {"why": f"the steps of {config.get('stage')} are not traced"}
    plan = TrainingPlan.parse(config["plan"], str(path))
    n_steps = int(result.get("steps", plan.max_steps))
    found, per_epoch = _occurrences(lineage, shards, plan, n_steps, number)
    steps = []
    for one in found:
        step = bisect_right(range(plan.max_steps + 1), one.row, key=plan.rows_before) - 1
        row = one.row - plan.rows_before(step)
        steps.append(
            {"step": step + 1, "row": row, "column": one.column}
            | {"first_token": one.first_token, "n_tokens": one.n_tokens, "epoch": one.row / per_epoch}
        )
    times = len({int(one["epoch"]) for one in steps})
    tokens = sum(one.n_tokens for one in found)
    return entry | {"n_steps": n_steps, "times": times, "tokens": tokens, "steps": steps}


def _occurrences(
    lineage: JsonObject, shards: Path, plan: TrainingPlan, n_steps: int, number: int
) -> tuple[list[Occurrence], float]:
    """Where the rows of a run read the document, and the rows of one of its epochs."""
    config = lineage["config"]
    text = _source(shards, config["objective"], plan)
    n_rows = plan.rows_before(n_steps)
    share = config.get("replay_share")
    if not share:
        return text.find(number, n_rows), text.rows_per_epoch
    mixed = ReplaySource(text, text, share)  # where a row of either comes from follows from its number alone
    new = next(parent for parent in lineage["parents"] if parent["kind"] == "shards")
    if new["digest"] != read_lineage(shards)["digest"]:
        return mixed.find_replayed(number, n_rows), text.rows_per_epoch / share
    mixed.follow(lengths_of(plan))
    return mixed.find(number, n_rows), mixed.rows_per_epoch


def _source(shards: Path, objective: str, plan: TrainingPlan) -> BatchSource | MixedSource:
    """The rows before noising, as `training.tasks` makes them."""
    data = TokenShards.open(shards, "train", verify=False)
    decodes = objective == "next_token" or (objective == "prefix" and data.family == "decoder")
    return text_rows(data, plan, plan.seed, shift=1 if decodes else 0)
