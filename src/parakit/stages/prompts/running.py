"""Prompts on items: replies, scores, costs, and every prompt against the first by paired tests on the same items.

Replies are cached next to the output as they come, so that the same command resumes. The folder (kind "prompts") holds
`results.json`, `report.html`, `tokens.svg`, `comparison.html`, and an evaluation folder of each prompt, which
`parakit compare` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from parakit.alignment.jsonl_cache import cached_map
from parakit.assistants.prompts.calibration import choose_answers, content_free
from parakit.assistants.prompts.items import PromptItem, read_items, require_fields
from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.assistants.prompts.replies import PromptAnswer, PromptRequest, requests_of, run_prompt
from parakit.assistants.prompts.selection import ExamplePool, example_pool, select_examples
from parakit.common.artifacts import LINEAGE, Lineage, resumable_output, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.common.progress import Bar, log, progress
from parakit.common.settings import config_digest
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.comparison.models import compare_models
from parakit.evaluation.comparison.outcome import ModelComparison, ModelScores
from parakit.evaluation.results import (
    PROGRAM,
    RESULTS,
    BenchmarkResult,
    Item,
    Protocol,
    digest,
    plain_benchmarks,
    summarize_items,
    write_items,
)
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.inference.chat_models.loading import open_chat_model
from parakit.inference.chat_models.locations import is_endpoint
from parakit.reports.comparison_page import write_comparison_page
from parakit.reports.prompts.compared import render_prompts, tokens_picture
from parakit.stages.judging.sources import chunk_size, file_stats
from parakit.stages.prompts.config import PromptRunConfig
from parakit.stages.prompts.scoring import Scorer, make_scorer

BENCHMARK, EVALUATIONS = "prompts", "evaluations"
COSTS = ("prompt_tokens", "new_tokens")
VARIANTS = CompareConfig(allow=("prompts_digest", "system_prompt", "n_shots", "settings"))
"""What differs between prompts, and may: it is what is compared."""


@dataclass(frozen=True)
class PromptJob:
    """A model (a folder, a URL, or one that is loaded), prompts, and a table of items."""

    model: str
    prompts: tuple[PromptTemplate, ...]
    items: str
    config: PromptRunConfig
    model_name: str | None = None
    device: str = "cpu"
    opened: ChatModel | None = field(default=None, compare=False)

    def open(self) -> ChatModel:
        """The chat model."""
        return self.opened or open_chat_model(self.model, model=self.model_name, device=self.device)


@dataclass(frozen=True)
class MeasuredPrompt:
    """A prompt with its answers and scores."""

    prompt: PromptTemplate
    answers: tuple[PromptAnswer, ...]
    result: BenchmarkResult
    n_shots: int

    def figures(self) -> JsonObject:
        """The score, the cost of an item, and what went wrong."""
        scores = {name: asdict(score) for name, score in self.result.scores.items()}
        return {
            "kind": self.prompt.kind,
            "version": self.prompt.version,
            "digest": self.prompt.digest,
            "n_shots": self.n_shots,
            "metric": self.result.main,
            "score": scores[self.result.main],
            **{cost: scores[cost] for cost in COSTS},
            "n_too_long": sum(one.reply is None for one in self.answers),
            "n_without_form": sum(one.reply is not None and one.answer is None for one in self.answers),
            "n_cut": sum(one.is_cut for one in self.answers),
        }


def measure_prompts(job: PromptJob, out: Path | None = None, overwrite: bool = False) -> JsonObject:
    """Run, score and compare the prompts of a job; returns the content of `results.json`. With `out` the folder is written,
    and an interrupted run resumes. `UserError` for prompts and items that do not fit, before any model is loaded.
    """
    return run_prompt_job(job, out, overwrite)[0]


def run_prompt_job(
    job: PromptJob, out: Path | None = None, overwrite: bool = False
) -> tuple[JsonObject, list[MeasuredPrompt]]:
    """As `measure_prompts`, with the answers and the scores of the items."""
    if out is None:
        with TemporaryDirectory() as folder:
            results, measured, _ = _measured(job, Path(folder))
        return results, measured
    with resumable_output(out, overwrite=overwrite) as work:
        results, measured, comparisons = _measured(job, work)
        _write(job, out, overwrite, results, measured, comparisons)
    return results, measured


def _measured(job: PromptJob, work: Path) -> tuple[JsonObject, list[MeasuredPrompt], list[ModelComparison]]:
    config = job.config
    items = read_items(job.items, config.answer_field, config.limit)
    for prompt in job.prompts:
        require_fields(prompt.required, items, prompt.name, job.items)
    pool = _pool(job, items)
    scorer = make_scorer(config, items, job.device)
    if unused := config.calibrate and not any(prompt.answer_choices for prompt in job.prompts):
        raise UserError(
            f"calibrate = {unused} has no effect: no prompt has `answer_choices`",
            "add them to the prompt's file",
        )
    model = job.open()
    measured = []
    with progress("prompts", len(items) * len(job.prompts), "replies") as bar:
        for prompt in job.prompts:
            n_shots = _n_shots(prompt, config)
            shown = _examples(job, model, prompt, items, pool, n_shots, scorer)
            requests = requests_of(items, shown, config.seed)
            answers = _answers(job, model, prompt, requests, work, bar)
            result = _result(job, prompt, requests, answers, scorer, n_shots + len(prompt.examples))
            measured.append(MeasuredPrompt(prompt, tuple(answers), result, n_shots + len(prompt.examples)))
    comparisons = _compared(measured)
    return _results(job, model, items, pool, measured, comparisons), measured, comparisons


def _n_shots(prompt: PromptTemplate, config: PromptRunConfig) -> int:
    """How many examples are drawn for a prompt."""
    if not prompt.n_shots or config.examples is None:
        if prompt.n_shots and not prompt.examples:
            raise UserError(
                f"the prompt {prompt.name} shows {prompt.n_shots} examples, and there are none",
                "name training rows with --examples FILE, or write `examples:` into the prompt's file",
            )
        return 0
    return config.n_shots or prompt.n_shots


def _pool(job: PromptJob, items: Sequence[PromptItem]) -> ExamplePool | None:
    path = job.config.examples
    if path is None:
        for prompt in job.prompts:
            _n_shots(prompt, job.config)
        return None
    if not any(prompt.n_shots for prompt in job.prompts):
        raise UserError(
            f"examples = {path} has no effect: no prompt draws examples",
            "take few_shot, or set n_shots in the prompt's file",
        )
    rows = read_items(path, job.config.answer_field)
    pool = example_pool(rows, items, path)
    for prompt in job.prompts:
        if prompt.n_shots:
            require_fields(prompt.required, pool.rows, prompt.name, path)
    if pool.n_overlapping:
        log(f"{path}: {pool.n_overlapping:,} rows are inputs of test items, and are no examples")
    return pool


def _examples(
    job: PromptJob,
    model: ChatModel,
    prompt: PromptTemplate,
    items: Sequence[PromptItem],
    pool: ExamplePool | None,
    n_shots: int,
    scorer: Scorer,
) -> list[tuple[dict[str, Any], ...]]:
    if pool is None or not n_shots:
        return []
    if job.config.select != "gain":
        return select_examples(pool, items, n_shots, job.config.select, job.config.seed)
    from parakit.stages.prompts.gain import select_by_gain

    chosen = select_by_gain(model, prompt, pool, n_shots, scorer, job.config.seed)
    return [chosen] * len(items)


def _answers(
    job: PromptJob,
    model: ChatModel,
    prompt: PromptTemplate,
    requests: Sequence[PromptRequest],
    work: Path,
    bar: Bar,
) -> list[PromptAnswer]:
    """From the cache, else from the model."""
    calibrate = job.config.calibrate and bool(prompt.answer_choices)
    write: Callable[[Sequence[PromptRequest]], list[PromptAnswer]] = partial(run_prompt, model, prompt)
    if prompt.answer_choices:
        prior = content_free(model, prompt, requests) if calibrate else None
        n_extra = round(prior.n_tokens / len(requests)) if prior else 0
        write = partial(choose_answers, model, prompt, prior=prior, n_extra_tokens=n_extra)

    def answer(chunk: Sequence[PromptRequest]) -> list[JsonObject]:
        written = write(chunk)
        bar.advance(len(chunk))
        return [one.to_json() for one in written]

    facts = {
        "prompt": prompt.digest,
        "model": model.name,
        "files": file_stats(job.model),
        "calibrate": calibrate,
    }
    cache = work / f"replies-{config_digest(facts)[:16]}.jsonl"
    rows = cached_map(cache, requests, _request_id, answer, chunk_size=chunk_size(job.model))
    return [PromptAnswer(**{key: value for key, value in row.items() if key != "id"}) for row in rows]


def _request_id(request: PromptRequest) -> str:
    return config_digest(
        {
            "item": request.item.id,
            "examples": list(request.examples),
            "seed": request.seed,
            "fields": dict(request.item.fields),
        }
    )[:24]


def _result(
    job: PromptJob,
    prompt: PromptTemplate,
    requests: Sequence[PromptRequest],
    answers: Sequence[PromptAnswer],
    scorer: Scorer,
    n_shots: int,
) -> BenchmarkResult:
    scores = scorer([(request.item, one.answer) for request, one in zip(requests, answers, strict=True)])
    metric = job.config.metric
    items = [
        Item(
            request.item.id,
            request.item.text,
            request.item.answers[0] if request.item.answers else "",
            one.reply or "",
            {metric: score, "prompt_tokens": one.n_prompt_tokens, "new_tokens": one.n_new_tokens},
        )
        for request, one, score in zip(requests, answers, scores, strict=True)
    ]
    rendered = (one.content for request in requests for one in request.messages(prompt))
    data = (part for item in items for part in (item.id, item.prompt, item.target))
    protocol = Protocol(
        "prompts",
        "1",
        PROGRAM,
        digest(data),
        digest(rendered),
        n_shots,
        "chat",
        prompt.system or None,
        settings={
            "metric": metric,
            "checker": job.config.checker,
            "judge": job.config.judge,
            "prompt": f"{prompt.name} {prompt.version}",
            **prompt.settings.model_dump(mode="json"),
        },
    )
    return summarize_items(protocol, items, metric, lower_is_better=COSTS)


def _compared(measured: Sequence[MeasuredPrompt]) -> list[ModelComparison]:
    """Every prompt against the first."""
    scores = [ModelScores(one.prompt.name, {BENCHMARK: one.result}) for one in measured]
    return compare_models(scores[0], scores[1:], VARIANTS) if len(scores) > 1 else []


def _results(
    job: PromptJob,
    model: ChatModel,
    items: Sequence[PromptItem],
    pool: ExamplePool | None,
    measured: Sequence[MeasuredPrompt],
    comparisons: Sequence[ModelComparison],
) -> JsonObject:
    compared: dict[str, JsonObject] = {one.model: one.without_items() for one in comparisons}
    prompts = {
        one.prompt.name: one.figures() | {"comparison": _differences(compared.get(one.prompt.name))}
        for one in measured
    }
    return {
        "model": model.name,
        "items": job.items,
        "n_items": len(items),
        "metric": job.config.metric,
        "reference": measured[0].prompt.name,
        "n_overlapping_examples": pool.n_overlapping if pool else 0,
        "prompts": prompts,
        "settings": job.config.model_dump(mode="json"),
    }


def _differences(found: Mapping[str, Any] | None) -> JsonObject | None:
    """A prompt's score and costs minus those of the first."""
    if found is None:
        return None
    kept = (
        *("first", "second", "difference", "low", "high", "p_value", "corrected_p_value", "n"),
        *("n_better", "n_worse", "detectable", "n_needed"),
    )
    rows = {row["metric"]: {key: row[key] for key in kept} for row in found["scores"]}
    return {"verdict": found["verdict"], "scores": rows}


def _write(
    job: PromptJob,
    out: Path,
    overwrite: bool,
    results: JsonObject,
    measured: Sequence[MeasuredPrompt],
    comparisons: Sequence[ModelComparison],
) -> None:
    with writing_artifact(out, job_lineage(job, "prompts", results), overwrite) as folder:
        write_json_atomic(folder / RESULTS, results)
        write_text_atomic(folder / "tokens.svg", tokens_picture(results))
        write_text_atomic(folder / "report.html", render_prompts(results, [_shown(one) for one in measured]))
        if comparisons:
            write_comparison_page(comparisons, VARIANTS, folder / "comparison.html")
        for one in measured:
            own = {"model": {"path": job.model}, "loss": {}, "suites": {}, "examples": None}
            own["benchmarks"] = plain_benchmarks({BENCHMARK: one.result})
            place = folder / EVALUATIONS / one.prompt.name
            with writing_artifact(place, job_lineage(job, "evaluation", one.figures())) as evaluation:
                write_json_atomic(evaluation / RESULTS, own)
                write_items(evaluation, BENCHMARK, one.result.items)


def _shown(measured: MeasuredPrompt) -> JsonObject:
    """What the page shows of a prompt: its templates, and some items with their replies."""
    metric = measured.result.main
    items = [
        {"prompt": item.prompt, "target": item.target, "reply": item.answer, "score": item.scores[metric]}
        for item in measured.result.items[:6]
    ]
    prompt = measured.prompt
    templates = [
        ("system", prompt.system),
        ("user", prompt.template),
        *(("user", text) for text in prompt.followups),
    ]
    return {"name": prompt.name, "templates": [one for one in templates if one[1]], "items": items}


def job_lineage(job: PromptJob, kind: str, results: JsonObject) -> Lineage:
    """How an artifact of prompts was made: its settings, the prompts, and the model as a parent."""
    config = job.config.model_dump(mode="json") | {
        "prompts": [one.model_dump(mode="json") for one in job.prompts]
    }
    has_lineage = not is_endpoint(job.model) and (Path(job.model) / LINEAGE).is_file()
    return Lineage(kind, config, [Path(job.model)] if has_lineage else [], job.config.seed, results)
