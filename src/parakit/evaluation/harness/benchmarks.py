"""Runs a benchmark of lm-eval: makes the prompts of its documents, asks the model, scores the answers as lm-eval does.

Prompts, choices of examples, filters and metrics are lm-eval's own; what is Parakit's is the form of the result, with an
interval for every score and every item.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean

from parakit.common.errors import UserError
from parakit.evaluation.harness.model import HarnessModel
from parakit.evaluation.harness.tasks import LoadedBenchmark
from parakit.evaluation.intervals import bootstrap
from parakit.evaluation.results import BenchmarkResult, Item, Protocol, Score, digest, summarize_items

N_RESAMPLES = 200  # of a metric that is more than a mean
_PREFERRED = ("acc_norm", "acc", "exact_match")  # which metric stands for a benchmark, if it has several


@dataclass(frozen=True)
class PromptSettings:
    """How questions are put."""

    chat: bool = False
    """Through the chat template, with each example as a turn."""
    system_prompt: str | None = None
    limit: int | None = None
    """The first so many documents of each task, as in lm-eval."""


@dataclass
class _Document:
    task: Any
    index: int
    content: Mapping[str, Any]
    instances: list[Instance]
    raw: dict[str, Any] = field(default_factory=dict)
    """Values by metric, as the task's aggregation takes them."""


class PreparedBenchmark:
    """A benchmark whose requests are made: what is wrong with a task or its data shows before hours of work."""

    def __init__(
        self, benchmark: LoadedBenchmark, model: HarnessModel, prompting: PromptSettings, version: str
    ) -> None:
        self.benchmark, self.model, self.prompting, self.version = benchmark, model, prompting, version
        for task in benchmark.tasks:
            _refuse(task)
        self.documents = [one for task in benchmark.tasks for one in _documents(task, model, prompting)]

    @property
    def n_requests(self) -> int:
        """How many the model will get."""
        return sum(one.repeats for document in self.documents for one in document.instances)

    def run(self) -> BenchmarkResult:
        """Ask the model and score its answers."""
        requests: dict[str, list[Instance]] = {}
        for instance in chain.from_iterable(document.instances for document in self.documents):
            requests.setdefault(instance.request_type, []).extend([instance] * instance.repeats)
        for kind, instances in requests.items():
            answers = getattr(self.model, kind)(instances)
            for instance, answer in zip(instances, answers, strict=True):
                instance.resps.append(answer)
        by_task = {id(task): task for task in self.benchmark.tasks}
        for task in by_task.values():
            task._instances = [i for one in self.documents if one.task is task for i in one.instances]
            task.apply_filters()
        for document in self.documents:
            document.raw = _raw_values(document)
        return self._result()

    def _result(self) -> BenchmarkResult:
        items = [self._item(document) for document in self.documents]
        aggregations = {k: v for task in self.benchmark.tasks for k, v in task.aggregation().items()}
        better = {k: v for task in self.benchmark.tasks for k, v in task.higher_is_better().items()}
        metrics = list(dict.fromkeys(name for document in self.documents for name in document.raw))
        names = [name for name in metrics if name.split(",")[0] in _PREFERRED]
        names.sort(key=lambda name: _PREFERRED.index(name.split(",")[0]))
        result = summarize_items(
            self._protocol(),
            items,
            (names or metrics)[0],
            lower_is_better=[name for name in metrics if better.get(name.split(",")[0]) is False],
            n_truncated=sum(map(self._is_truncated, self.documents)),
        )
        scores = dict(result.scores)
        for name in metrics:
            aggregate = aggregations.get(name.split(",")[0], mean)
            if aggregate is not mean:
                values = [document.raw[name] for document in self.documents if name in document.raw]
                scores[name] = _aggregated(values, aggregate, better.get(name.split(",")[0], True))
        groups = dict(result.groups)
        if self.benchmark.group is not None:
            scores |= _unweighted(self.benchmark.group, groups)
            groups = _subgroups(self.benchmark.group, items, result) | groups
        return dataclasses.replace(
            result, scores={name: scores[name] for name in metrics if name in scores}, groups=groups
        )

    def _protocol(self) -> Protocol:
        tasks = self.benchmark.tasks
        shots = {task.task_name: task.config.num_fewshot for task in tasks}
        settings: dict[str, Any] = {"limit": self.prompting.limit}
        generated = [i for one in self.documents for i in one.instances if i.request_type == "generate_until"]
        if generated:
            settings["generation"] = self.model.settings(generated[0].args[1])
        if len(set(shots.values())) > 1:
            settings["shots"] = shots
        return Protocol(
            task=self.benchmark.name,
            version=self.benchmark.version,
            program=f"lm-eval {self.version}",
            data_digest=digest(_plain(dict(document.content)) for document in self.documents),
            prompts_digest=digest(_prompts(self.documents)),
            n_shots=max(shots.values()),
            prompting="chat" if self.prompting.chat else "plain",
            system_prompt=self.prompting.system_prompt,
            split=tasks[0].config.test_split or tasks[0].config.validation_split,
            settings=settings,
        )

    def _item(self, document: _Document) -> Item:
        task = document.task
        group = _alias(task) if self.benchmark.group is not None else None
        choices = _choices(task, document.content)
        scores = {name: value for name, raw in document.raw.items() if (value := _number(raw)) is not None}
        if "perplexity" in scores:
            scores["log_likelihood"] = scores.pop("perplexity")
        return Item(
            id=str(document.index) if group is None else f"{group}/{document.index}",
            prompt=_own_text(document, choices),
            target=_target(task, document.content, choices),
            answer=_answer(document, choices),
            scores=scores,
            group=group,
        )

    def _is_truncated(self, document: _Document) -> bool:
        return any(instance.args[0] in self.model.truncated for instance in document.instances)


def _refuse(task: Any) -> None:
    """`UserError` for a task that this harness must not or cannot run."""
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(
            f"task {task.task_name} runs code that the model wrote, outside a sandbox",
            "humaneval and mbpp are measures of Parakit's own, which run it in one",
        )
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"task {task.task_name} shows pictures or sound", "Parakit's models read text")


def _documents(task: Any, model: HarnessModel, prompting: PromptSettings) -> Iterator[_Document]:
    template = model.apply_chat_template if prompting.chat else None
    repeats = task.config.repeats or 1
    documents = getattr(task, "task_docs", None)
    if documents is None:
        documents = task.eval_docs
    n = 0
    for index, document in enumerate(islice(documents, prompting.limit)):
        try:
            context = task.fewshot_context(
                document,
                num_fewshot=task.config.num_fewshot,
                system_instruction=prompting.system_prompt,
                apply_chat_template=prompting.chat,
                fewshot_as_multiturn=prompting.chat,
                chat_template=template,
                gen_prefix=task.doc_to_prefix(document),
            )
            made = task.construct_requests(
                doc=document,
                ctx=context,
                metadata=(task.task_name, index, repeats),
                apply_chat_template=prompting.chat,
                chat_template=template,
            )
        except UserError:
            raise
        except Exception as error:  # a task's own code may raise anything
            raise UserError(
                f"task {task.task_name}: row {index + 1} cannot be made into a prompt: {error!r}",
                "repair this row of its data",
            ) from error
        n += 1
        yield _Document(task, index, document, made if isinstance(made, list) else [made])
    if not n:
        split = task.config.test_split or task.config.validation_split
        raise UserError(
            f"task {task.task_name} has no documents in its split {split}", "add that split to its data"
        )


def _raw_values(document: _Document) -> dict[str, Any]:
    """The values of all metrics, as `METRIC` or, of a named filter, `METRIC,FILTER`."""
    values: dict[str, Any] = {}
    for name in document.instances[0].filtered_resps:
        answers = [instance.filtered_resps[name] for instance in document.instances]
        found = document.task.process_results(document.content, answers)
        values |= {metric if name == "none" else f"{metric},{name}": value for metric, value in found.items()}
    return values


def _aggregated(values: Sequence[Any], aggregate: Any, higher_is_better: bool) -> Score:
    """A metric that is no mean, by lm-eval's own function, with its bootstrap interval."""

    def statistic(indices: np.ndarray) -> float:
        return float(aggregate([values[i] for i in indices]))

    found = bootstrap(statistic, len(values), n_resamples=N_RESAMPLES)
    return Score(found.value, found.low, found.high, len(values), higher_is_better)


def _unweighted(group: Any, scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Score]:
    """The metrics that a group averages over its tasks, whatever their sizes; intervals by the tasks' own."""
    found: dict[str, Score] = {}
    for metric in [one.metric for one in group.aggregate_metric_list or () if not one.weight_by_size]:
        parts = [
            scores[_alias(task)][metric] for task in group.get_all_tasks() if metric in scores[_alias(task)]
        ]
        if parts:
            value = sum(part.value for part in parts) / len(parts)
            half = math.sqrt(sum(((part.high - part.low) / 2) ** 2 for part in parts)) / len(parts)
            n = sum(part.n for part in parts)
            found[metric] = Score(value, value - half, value + half, n, parts[0].higher_is_better)
    return found


def _subgroups(group: Any, items: Sequence[Item], result: BenchmarkResult) -> dict[str, Mapping[str, Score]]:
    """The scores of the groups inside a group, over all their items."""
    found: dict[str, Mapping[str, Score]] = {}
    lower = [name for name, score in result.scores.items() if not score.higher_is_better]
    for inner in group.get_all_groups():
        members = {_alias(task) for task in inner.get_all_tasks()}
        of_group = [item for item in items if item.group in members]
        if inner.name != group.name and of_group:
            found[inner.name] = summarize_items(
                result.protocol, of_group, result.main, lower_is_better=lower
            ).scores
    return found


def _alias(task: Any) -> str:
    return str(task.config.task_alias or task.task_name)


def _choices(task: Any, document: Mapping[str, Any]) -> list[str] | None:
    return (
        [str(one) for one in task.doc_to_choice(document)] if task.config.doc_to_choice is not None else None
    )


def _spelled(choices: Sequence[str], document: Mapping[str, Any]) -> Sequence[str]:
    """The choices themselves, where a prompt shows them behind letters and expects a letter."""
    shown = document.get("choices")
    texts = shown.get("text") if isinstance(shown, Mapping) else shown
    letters = all(len(choice.strip()) == 1 for choice in choices)
    return list(map(str, texts)) if letters and texts and len(texts) == len(choices) else choices


def _own_text(document: _Document, choices: Sequence[str] | None) -> str:
    """The document as text, without examples, system prompt and template."""
    task, content = document.task, document.content
    if document.instances[0].request_type == "loglikelihood_rolling":
        return str(document.instances[0].args[0])
    text = task.doc_to_text(content)
    if isinstance(text, str) and text:
        return text
    return "\n".join(choices or ())


def _target(task: Any, document: Mapping[str, Any], choices: Sequence[str] | None) -> str:
    if getattr(task, "multiple_input", False):
        return (choices or ())[task.doc_to_text(document)]
    target = task.doc_to_target(document)
    if choices is not None:
        index = choices.index(target) if target in choices else target
        if isinstance(index, int) and 0 <= index < len(choices):
            return _spelled(choices, document)[index]
    return target if isinstance(target, str) else _plain(target)


def _answer(document: _Document, choices: Sequence[str] | None) -> str:
    """The likeliest choice, the generated text, or the log-likelihood."""
    first = document.instances[0]
    if first.request_type == "generate_until":
        return str(first.resps[0])
    if first.request_type == "loglikelihood_rolling":
        return f"{first.resps[0]:.4f} nats"
    values = [instance.resps[0][0] for instance in document.instances]
    if choices is not None and len(values) >= len(choices):
        return _spelled(choices, document.content)[int(np.argmax(values[: len(choices)]))]
    return f"{values[0]:.4f} nats{', the likeliest' if first.resps[0][1] else ''}"


def _prompts(documents: Iterable[_Document]) -> Iterator[str]:
    """All that the model gets; a context that choices share once."""
    before = None
    for instance in chain.from_iterable(document.instances for document in documents):
        context, *rest = instance.args
        if context is not before:
            yield str(context)
        before = context
        yield from map(_plain, rest)


def _number(value: Any) -> float | None:
    """A metric's value of one item; None for one that only makes sense in the sum."""
    if isinstance(value, list) and value and all(isinstance(one, int | float) for one in value):
        return float(np.mean(value))
    return float(value) if isinstance(value, bool | int | float | np.number) else None


def _plain(value: Any) -> str:
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    )
