"""The tasks of an evaluation by name: Parakit's own measures, and lm-eval's, whose package is loaded only for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.common.errors import UserError
from parakit.common.files import cache_folder
from parakit.common.progress import OnProgress
from parakit.evaluation.config import TaskConfig
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.measures.registry import MEASURES
from parakit.evaluation.results import BenchmarkResult
from parakit.tokens.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from parakit.evaluation.harness.benchmarks import PreparedBenchmark


def run_tasks(
    model: Any,
    tokenizer: Tokenizer,
    folder: str | Path,
    config: TaskConfig,
    *,
    chat: bool,
    max_new_tokens: int | None = None,
    advance: OnProgress | None = None,
    on_total: OnProgress | None = None,
) -> dict[str, BenchmarkResult]:
    """The result of each task of `config`, by name. `on_total` is called with numbers of requests that will come, `advance`
    as they are finished.

    Answers to lm-eval's tasks are kept in the cache folder, so that a run which was interrupted resumes. `UserError`, before
    any work, for a task that does not exist or whose data is absent, and for a model that cannot be evaluated so.
    """
    data = Path(config.data) if config.data is not None else None
    if chat and tokenizer.chat_template is None:
        raise UserError(
            f"{folder}: the model has no chat template",
            "leave out prompting: chat, or tune the model for chat first",
        )
    _check_measures(config)
    prepared = _prepare(
        [name for name in config.tasks if name not in MEASURES],
        model,
        tokenizer,
        str(folder),
        config,
        chat=chat,
        max_new_tokens=max_new_tokens,
        advance=advance,
    )
    if on_total is not None and prepared:
        on_total(sum(one.n_requests for found in prepared.values() for one in found))
    results: dict[str, BenchmarkResult] = {}
    for name in dict.fromkeys(config.tasks):
        if name in MEASURES:
            given = MeasureInput(
                model,
                tokenizer,
                Path(folder),
                data,
                chat,
                config.limit,
                config.seed,
                n_samples=config.n_samples,
                system_prompt=config.system_prompt,
                advance=advance,
            )
            results[name] = MEASURES[name].run(given)
        for one in prepared.get(name, ()):
            results[one.benchmark.name] = one.run()
    return results


def _check_measures(config: TaskConfig) -> None:
    """`UserError` for what Parakit's own measures among the tasks need, or do not take."""
    own = [name for name in config.tasks if name in MEASURES]
    for name in own:
        if MEASURES[name].needs_data and config.data is None:
            raise UserError(f"the measure {name} needs data", "name the folder with --data")
    if config.n_shots is not None and len(own) == len(config.tasks):
        raise UserError(
            f"n_shots = {config.n_shots} has no effect: {', '.join(own)} have a fixed number of examples",
            "leave it out",
        )


def _prepare(
    names: Sequence[str],
    model: Any,
    tokenizer: Tokenizer,
    folder: str,
    config: TaskConfig,
    *,
    chat: bool,
    max_new_tokens: int | None,
    advance: OnProgress | None,
) -> dict[str, list[PreparedBenchmark]]:
    if not names:
        return {}
    from parakit.evaluation.harness.task_index import require_harness

    version = require_harness()
    from parakit.evaluation.harness.answers import AnswerStore, model_digest
    from parakit.evaluation.harness.backends import make_backend
    from parakit.evaluation.harness.benchmarks import PreparedBenchmark, PromptSettings
    from parakit.evaluation.harness.model import HarnessModel
    from parakit.evaluation.harness.tasks import TaskLoader

    backend = make_backend(model, tokenizer)
    loader = TaskLoader(Path(config.data) if config.data is not None else None, fetch=config.fetch)
    loaded = {name: loader.load(name, config.n_shots) for name in dict.fromkeys(names)}
    digest = model_digest(model, tokenizer)
    harness_model = HarnessModel(
        backend,
        tokenizer,
        name=folder,
        answers=AnswerStore(cache_folder() / "answers" / f"{digest}.sqlite", digest),
        advance=advance,
        max_new_tokens=max_new_tokens,
    )
    prompting = PromptSettings(chat, config.system_prompt, config.limit)
    return {
        name: [PreparedBenchmark(one, harness_model, prompting, version) for one in benchmarks]
        for name, benchmarks in loaded.items()
    }
