"""`parakit.prompts`: prompts as files, run and compared on one's own inputs; the functions that `parakit prompts` calls.

    from parakit import prompts
    mine = prompts.load("reviews.yaml", product="films")
    prompts.reply("models/mine", mine, review="A joy.").answer
    found = prompts.compare("models/mine", ["zero_shot", mine], "reviews.csv", metric="exact")
    found.scores["reviews"].difference.verdict

A model is a folder, a build, the URL of an OpenAI-compatible API, a loaded `parakit.Model`, or a chat model.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.assistants.prompts.items import PromptItem
from parakit.assistants.prompts.library import library_prompts, open_prompt
from parakit.assistants.prompts.prompt import PromptTemplate, with_values
from parakit.assistants.prompts.replies import PromptAnswer, requests_of, run_prompt
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.evaluation.intervals import Estimate
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.chat_models.locations import is_endpoint
from parakit.inference.loaded_model import Model
from parakit.recipe.build_folder import model_location
from parakit.stages.prompts.config import PromptRunConfig, SampleConfig
from parakit.stages.prompts.running import MeasuredPrompt, PromptJob, run_prompt_job
from parakit.stages.prompts.sampling import measure_samples

PromptModel = str | Path | Model | ChatModel
PromptName = str | Path | PromptTemplate
PromptRows = str | Path | Sequence[Mapping[str, Any]]
"""A table's file, or rows: a value for each field of the prompt, and the right answer, or a list of them, under `answer`."""


@dataclass(frozen=True)
class ScoreDifference:
    """A prompt's score minus that of the first, on the same items. `n_needed`: how many items a difference of 2 points
    would need.
    """

    verdict: str
    difference: float
    low: float
    high: float
    p_value: float
    corrected_p_value: float
    n_needed: int | None


@dataclass(frozen=True)
class PromptScore:
    """What a prompt brings and costs. `scores` and `answers` are those of the items, in their order; tokens are means over
    items; `difference` is None for the first prompt.
    """

    prompt: PromptTemplate
    score: Estimate
    prompt_tokens: Estimate
    new_tokens: Estimate
    n_shots: int
    n_too_long: int
    n_without_form: int
    n_cut: int
    answers: tuple[PromptAnswer, ...]
    scores: tuple[float, ...]
    difference: ScoreDifference | None = None


@dataclass(frozen=True)
class PromptComparison:
    """Prompts on the same items, by name; the first is the reference."""

    model: str
    metric: str
    n_items: int
    scores: dict[str, PromptScore]


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy with `n` replies, or with `n` tokens of thinking, and the tokens of an item."""

    n: int
    tokens: float
    accuracy: Estimate


@dataclass(frozen=True)
class ChoiceErrors:
    """`ranked`: the share of pairs of a right and a wrong reply that a choice ranks rightly; `missed`: the share of the items
    with a right reply on which it takes a wrong one. None without such pairs or items.
    """

    ranked: float | None
    missed: float | None


@dataclass(frozen=True)
class SampledCurves:
    """Accuracy against tokens for each way to choose among replies, and its errors."""

    model: str
    metric: str
    n_items: int
    n_samples: int
    curves: dict[str, tuple[CurvePoint, ...]]
    errors: dict[str, ChoiceErrors]


def list() -> builtins.list[PromptTemplate]:
    """The prompts of the library: one of each usual kind."""
    return library_prompts()


def load(prompt: PromptName, **values: str) -> PromptTemplate:
    """A prompt of the library or of a file, with `values` in its fields. `UserError` for one that is none, and for a field
    that no template reads.
    """
    opened = prompt if isinstance(prompt, PromptTemplate) else open_prompt(prompt)
    return with_values(opened, values) if values else opened


def reply(
    model: PromptModel,
    prompt: PromptName,
    *,
    model_name: str | None = None,
    device: str = "auto",
    **values: str,
) -> PromptAnswer:
    """Run a prompt on one input: `values` are those of its fields. `UserError` for a field without a value."""
    opened = load(prompt, **values)
    if missing := opened.required:
        raise UserError(f"the prompt {opened.name} has no value for {missing[0]!r}", f"{missing[0]}=...")
    chat_model = _job(model, (opened,), "", PromptRunConfig(), model_name, device).open()
    return run_prompt(chat_model, opened, requests_of([PromptItem("1", {})]))[0]


def run(
    model: PromptModel,
    prompt: PromptName,
    items: PromptRows,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    model_name: str | None = None,
    device: str = "auto",
    **settings: Any,
) -> PromptScore:
    """Run a prompt on a table of inputs; see `compare`."""
    found = _measure(model, [prompt], items, out, overwrite, model_name, device, settings)
    return next(iter(found.scores.values()))


def compare(
    model: PromptModel,
    prompts: Sequence[PromptName],
    items: PromptRows,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    model_name: str | None = None,
    device: str = "auto",
    **settings: Any,
) -> PromptComparison:
    """Run several prompts on the same inputs; each is compared with the first by paired tests.

    `settings`: the fields of `PromptRunConfig`: metric (exact, f1, number, contains, checker, judge), checker, judge, limit,
    examples, n_shots, select, calibrate, seed. With `out` a folder keeps the replies and a page, and a call that was
    interrupted resumes. Raises `UserError` for prompts and items that do not fit, before a model is loaded.
    """
    if len(prompts) < 2:
        raise UserError(
            f"a comparison needs two prompts, and {len(prompts)} is given", "name the reference first"
        )
    return _measure(model, prompts, items, out, overwrite, model_name, device, settings)


def sample(
    model: PromptModel,
    prompt: PromptName,
    items: PromptRows,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    model_name: str | None = None,
    device: str = "auto",
    **settings: Any,
) -> SampledCurves:
    """Sample several replies to each input, and measure what votes, verifiers and longer thinking bring for their tokens.

    `settings`: the fields of `SampleConfig`: n_samples, temperature, verifiers, budgets, metric, ...
    """
    config = SampleConfig.parse(settings, "sample")
    with _table(items) as path:
        job = _job(model, (load(prompt),), path, PromptRunConfig(), model_name, device)
        found = measure_samples(job, config, None if out is None else Path(out), overwrite)
    curves = {
        name: tuple(CurvePoint(one["n"], one["tokens"], _estimate(one)) for one in points)
        for name, points in found["curves"].items()
    }
    errors = {
        name: ChoiceErrors(one["ranked"], one["missed"]) for name, one in found["errors"].items() if one
    }
    return SampledCurves(
        found["model"], found["metric"], found["n_items"], found["n_samples"], curves, errors
    )


def _measure(
    model: PromptModel,
    prompts: Sequence[PromptName],
    items: PromptRows,
    out: str | Path | None,
    overwrite: bool,
    model_name: str | None,
    device: str,
    settings: Mapping[str, Any],
) -> PromptComparison:
    config = PromptRunConfig.parse(dict(settings), "prompts")
    opened = tuple(load(one) for one in prompts)
    if twice := [one.name for i, one in enumerate(opened) if one.name in {two.name for two in opened[:i]}]:
        raise UserError(
            f"two prompts have the name {twice[0]!r}", "give one another: prompt.replace(name=...)"
        )
    with _table(items) as path:
        job = _job(model, opened, path, config, model_name, device)
        results, measured = run_prompt_job(job, None if out is None else Path(out), overwrite)
    scores = {one.prompt.name: _score(one, results["prompts"][one.prompt.name]) for one in measured}
    return PromptComparison(results["model"], results["metric"], results["n_items"], scores)


def _score(measured: MeasuredPrompt, figures: Mapping[str, Any]) -> PromptScore:
    metric, compared = figures["metric"], figures["comparison"]
    difference = None
    if compared is not None:
        found = compared["scores"][metric]
        names = ("difference", "low", "high", "p_value", "corrected_p_value", "n_needed")
        difference = ScoreDifference(compared["verdict"], **{name: found[name] for name in names})
    return PromptScore(
        measured.prompt,
        _estimate(figures["score"]),
        _estimate(figures["prompt_tokens"]),
        _estimate(figures["new_tokens"]),
        figures["n_shots"],
        figures["n_too_long"],
        figures["n_without_form"],
        figures["n_cut"],
        measured.answers,
        tuple(float(item.scores[metric]) for item in measured.result.items),
        difference,
    )


def _estimate(figures: Mapping[str, Any]) -> Estimate:
    return Estimate(figures["value"], figures["low"], figures["high"])


def _job(
    model: PromptModel,
    prompts: tuple[PromptTemplate, ...],
    items: str,
    config: PromptRunConfig,
    model_name: str | None,
    device: str,
) -> PromptJob:
    if isinstance(model, Model):
        opened: ChatModel | None = LocalChatModel.wrap(model.network, model.tokenizer, str(model.path))
        return PromptJob(str(model.path), prompts, items, config, opened=opened)
    if not isinstance(model, str | Path):
        return PromptJob(model.name, prompts, items, config, opened=model)
    location = model_location(model)
    device = device if is_endpoint(location) else str(pick_device(device))
    return PromptJob(location, prompts, items, config, model_name, device)


@contextlib.contextmanager
def _table(items: PromptRows) -> Iterator[str]:
    """The file of a table: the one that is named, or one with the rows for the time of the block."""
    if isinstance(items, str | Path):
        yield str(items)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.jsonl"
        path.write_text("".join(json.dumps(dict(row)) + "\n" for row in items), encoding="utf-8")
        yield str(path)


prompts = sys.modules[__name__]
"""What `parakit.prompts` is: this module, imported on first use."""
