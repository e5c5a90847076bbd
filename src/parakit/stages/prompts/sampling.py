"""Accuracy against tokens spent: one reply, votes, best of n by a verifier, coverage, and thinking of a forced length.

N replies to each item are sampled once; every method and every n is computed from the same replies (`voting`). Tokens of n
replies are those of the prompt, which the engine reads once, and n times the mean reply. The folder (kind "prompt_samples")
holds `results.json`, `samples.jsonl`, `report.html` and `curve.svg`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from parakit.alignment.jsonl_cache import cached_map
from parakit.assistants.prompts.budget_forcing import answer_with_budget
from parakit.assistants.prompts.items import PromptItem, read_items, require_fields
from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.assistants.prompts.replies import PromptRequest, run_prompt
from parakit.assistants.prompts.voting import (
    coverage,
    expected_choice,
    expected_vote,
    verifier_errors,
    vote_key,
)
from parakit.common.artifacts import resumable_output, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.common.progress import progress
from parakit.common.seeds import derive_seed
from parakit.common.settings import config_digest
from parakit.evaluation.intervals import bootstrap_mean
from parakit.evaluation.results import RESULTS
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.inference.chat_models.local import LocalChatModel
from parakit.reports.prompts.samples import curve_picture, render_samples
from parakit.stages.judging.sources import chunk_size, file_stats
from parakit.stages.prompts.config import SampleConfig, ScoreConfig
from parakit.stages.prompts.running import PromptJob, job_lineage
from parakit.stages.prompts.scoring import Scorer, last_number, make_scorer
from parakit.stages.prompts.verifiers import VOTES, verify

SAMPLES = "samples.jsonl"


@dataclass(frozen=True)
class SampledReplies:
    """N replies to each of P items: answers and texts by item, `scores` and `tokens` (P, N), and `prompt_tokens` (P,)."""

    items: tuple[PromptItem, ...]
    answers: list[list[str | None]]
    replies: list[list[str | None]]
    scores: np.ndarray
    tokens: np.ndarray
    prompt_tokens: np.ndarray


def measure_samples(
    job: PromptJob, config: SampleConfig, out: Path | None = None, overwrite: bool = False
) -> JsonObject:
    """Sample, choose and count; returns the content of `results.json`. `job` has one prompt. With `out` the folder is written,
    and an interrupted run resumes.
    """
    if out is None:
        with TemporaryDirectory() as folder:
            return _measured(job, config, Path(folder))[0]
    with resumable_output(out, overwrite=overwrite) as work:
        results, sampled = _measured(job, config, work)
        with writing_artifact(out, job_lineage(job, "prompt_samples", results), overwrite) as folder:
            write_json_atomic(folder / RESULTS, results)
            write_text_atomic(folder / SAMPLES, "".join(f"{line}\n" for line in _lines(sampled)))
            write_text_atomic(folder / "curve.svg", curve_picture(results))
            write_text_atomic(folder / "report.html", render_samples(results))
    return results


def _measured(job: PromptJob, config: SampleConfig, work: Path) -> tuple[JsonObject, SampledReplies]:
    (prompt,) = job.prompts
    items = read_items(job.items, config.answer_field, config.limit)
    require_fields(prompt.required, items, prompt.name, job.items)
    if prompt.answer_choices or (prompt.n_shots and not prompt.examples):
        raise UserError(
            f"{prompt.name}: replies are not sampled from answer_choices, nor with examples that are drawn",
            "write `examples:` into the prompt's file, or take another prompt",
        )
    scorer = make_scorer(
        ScoreConfig(**config.model_dump(include=set(ScoreConfig.model_fields))), items, job.device
    )
    model = job.open()
    if config.budgets and not isinstance(model, LocalChatModel):
        raise UserError(
            f"{job.model}: budgets need a local model", "leave --budgets out, or name a model's folder"
        )
    sampled = _sample(job, model, prompt, items, scorer, config, work)
    curves: dict[str, list[JsonObject]] = {}
    errors: JsonObject = {}
    for name in config.verifiers:
        curves[name], errors[name] = _verified(name, prompt, sampled, config, job.device)
    curves["coverage"] = [
        _point(coverage(sampled.scores, n), _spent(sampled, n), n) for n in sizes(config.n_samples)
    ]
    if config.budgets:
        assert isinstance(model, LocalChatModel)
        curves["budget"] = _budgets(model, prompt, items, scorer, config)
    results: JsonObject = {
        "model": model.name,
        "items": job.items,
        "n_items": len(items),
        "prompt": prompt.name,
        "metric": config.metric,
        "n_samples": config.n_samples,
        "curves": curves,
        "errors": errors,
        "settings": config.model_dump(mode="json"),
    }
    return results, sampled


def sizes(n_samples: int) -> list[int]:
    """1, 2, 4, ... and the number that was sampled."""
    return sorted({*(2**k for k in range(n_samples.bit_length()) if 2**k <= n_samples), n_samples})


def _sample(
    job: PromptJob,
    model: ChatModel,
    prompt: PromptTemplate,
    items: Sequence[PromptItem],
    scorer: Scorer,
    config: SampleConfig,
    work: Path,
) -> SampledReplies:
    drawn = prompt.replace(settings=prompt.settings.replace(temperature=config.temperature))
    requests = [
        PromptRequest(item, (), derive_seed(config.seed, "prompt sample", item.id, number) % 2**62)
        for item in items
        for number in range(config.n_samples)
    ]
    facts = {"prompt": drawn.digest, "model": model.name, "files": file_stats(job.model)}
    cache = work / f"samples-{config_digest(facts)[:16]}.jsonl"
    with progress("sample", len(requests), "replies") as bar:

        def answer(chunk: Sequence[PromptRequest]) -> list[JsonObject]:
            written = run_prompt(model, drawn, chunk)
            bar.advance(len(chunk))
            return [one.to_json() for one in written]

        rows = cached_map(
            cache,
            requests,
            lambda one: f"{one.seed}-{config_digest(dict(one.item.fields))[:16]}",
            answer,
            chunk_size=chunk_size(job.model),
        )
    shape = (len(items), config.n_samples)
    scores = scorer([(request.item, row["answer"]) for request, row in zip(requests, rows, strict=True)])

    def by_item(key: str) -> list[list[str | None]]:
        return [[row[key] for row in rows[i * shape[1] : (i + 1) * shape[1]]] for i in range(shape[0])]

    return SampledReplies(
        tuple(items),
        by_item("answer"),
        by_item("reply"),
        np.array(scores, float).reshape(shape),
        np.array([row["n_new_tokens"] for row in rows], float).reshape(shape),
        np.array([row["n_prompt_tokens"] for row in rows], float).reshape(shape)[:, 0],
    )


def _spent(sampled: SampledReplies, n: int) -> float:
    """Mean tokens of an item with n replies, its prompt included."""
    return float((sampled.prompt_tokens + n * sampled.tokens.mean(1)).mean())


def _point(by_item: np.ndarray, tokens: float, n: int) -> JsonObject:
    """A point of a curve: the mean over items with its interval."""
    return {"n": n, "tokens": tokens, **asdict(bootstrap_mean(by_item))}


def _verified(
    name: str, prompt: PromptTemplate, sampled: SampledReplies, config: SampleConfig, device: str
) -> tuple[list[JsonObject], JsonObject | None]:
    """The curve of a way to choose, and its errors. A verifier's own tokens are not counted."""
    if name == VOTES:
        keys = [[_vote(answer, config.metric) for answer in row] for row in sampled.answers]
        shares = np.array([[row.count(key) if key else 0 for key in row] for row in keys], float)
        points = [
            _point(expected_vote(sampled.scores, keys, n, config.seed), _spent(sampled, n), n)
            for n in sizes(config.n_samples)
        ]
        return points, dict(verifier_errors(sampled.scores, shares))
    by = verify(name, [_blind(item, prompt) for item in sampled.items], sampled.replies, device)
    points = [
        _point(expected_choice(sampled.scores, by, n), _spent(sampled, n), n) for n in sizes(config.n_samples)
    ]
    return points, dict(verifier_errors(sampled.scores, by))


def _blind(item: PromptItem, prompt: PromptTemplate) -> PromptItem:
    """An item without its right answers and without columns that the prompt does not read, which may hold them."""
    fields = {name: item.fields[name] for name in prompt.fields if name in item.fields}
    return replace(item, fields=fields, answers=())


def _vote(answer: str | None, metric: str) -> str | None:
    """What an answer votes for: its number where numbers are scored, else its words."""
    if metric != "number" or answer is None:
        return vote_key(answer)
    number = last_number(answer)
    return None if number is None else str(number)


def _budgets(
    model: LocalChatModel,
    prompt: PromptTemplate,
    items: Sequence[PromptItem],
    scorer: Scorer,
    config: SampleConfig,
) -> list[JsonObject]:
    """Greedy answers after thinking of each length."""
    requests = [PromptRequest(item) for item in items]
    greedy = prompt.replace(settings=prompt.settings.replace(temperature=0.0))
    points = []
    with progress("budgets", len(items) * len(config.budgets), "replies") as bar:
        for budget in config.budgets:
            answers = answer_with_budget(model, greedy, requests, budget)
            scores = scorer([(item, one.answer) for item, one in zip(items, answers, strict=True)])
            tokens = float(np.mean([one.n_prompt_tokens + one.n_new_tokens for one in answers]))
            points.append(_point(np.array(scores, float), tokens, budget))
            bar.advance(len(items))
    return points


def _lines(sampled: SampledReplies) -> list[str]:
    return [
        json.dumps(
            {
                "id": item.id,
                "prompt": item.text,
                "right": list(item.answers),
                "replies": sampled.replies[i],
                "answers": sampled.answers[i],
                "scores": sampled.scores[i].tolist(),
                "tokens": sampled.tokens[i].tolist(),
            },
            ensure_ascii=False,
        )
        for i, item in enumerate(sampled.items)
    ]
