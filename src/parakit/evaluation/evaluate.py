"""Evaluates one model folder on everything that the config names; the results are an artifact.

The folder holds `results.json`: `model`, `loss` by name of the text, `examples` with the metrics of the model's task, and
`suites` with every answer, `benchmarks` by name of the task; their items are in files of their own (`results`). Its lineage
names the model and the data.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parakit import primer
from parakit.checkpoints.loading import load_model
from parakit.common.artifacts import LINEAGE, Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.common.progress import OnProgress, log
from parakit.data.examples import TASK_FORMATS, iter_examples, load_examples_report, read_examples
from parakit.data.row_report import RowReport, skip_summary
from parakit.evaluation.config import EvaluationConfig
from parakit.evaluation.examples import evaluate_examples
from parakit.evaluation.perplexity import evaluate_loss, evaluate_text, without_blocks
from parakit.evaluation.results import RESULTS, plain_benchmarks, write_items
from parakit.evaluation.suites import run_suites
from parakit.evaluation.tasks import run_tasks
from parakit.inference.capabilities import model_kind
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.folder_settings import is_chat_tuned
from parakit.model.heads import LanguageModel, TransformerModel
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer


def evaluate_model(
    path: str | Path,
    config: EvaluationConfig,
    *,
    device: str = "cpu",
    advance: OnProgress | None = None,
    on_total: OnProgress | None = None,
) -> JsonObject:
    """Evaluate the model folder `path`; returns the content of `results.json`, but that `benchmarks` holds results with
    their items.

    `advance` is called with the number of tokens counted and questions answered, `on_total` with how many are to come, where
    that is known. `UserError` where the config names nothing, where text or suites need a tokenizer and there is none, and
    where shards were made with another tokenizer.
    """
    if not any((config.tokens, config.text, config.suites, config.examples, config.tasks)):
        raise UserError(
            "nothing to evaluate on",
            "name --tasks TASKS, --text FILE, --tokens FOLDER, --examples FOLDER or --suites",
        )
    model: Any  # each evaluation checks the kind of model
    model, tokenizer = load_model(path, device)
    chat = is_chat_tuned(path) if config.prompting == "auto" else config.prompting == "chat"
    results: JsonObject = {
        "model": {
            "path": str(path),
            "chat_tuned": is_chat_tuned(path),
            "parameters": model.config.n_params()["total"],
        },
        "loss": _losses(model, tokenizer, config, advance),
        "examples": None,
        "suites": {},
        "benchmarks": {},
    }
    if config.tasks:
        results["benchmarks"] = run_tasks(
            model,
            _require_tokenizer(tokenizer, path),
            path,
            config,
            chat=chat,
            max_new_tokens=config.max_new_tokens if "max_new_tokens" in config.model_fields_set else None,
            advance=advance,
            on_total=on_total,
        )
    if config.examples is not None:
        _refuse_inert(config, _task_of(model))
        results["examples"] = evaluate_task(model, _require_tokenizer(tokenizer, path), config, advance)
    if config.suites is not None:
        suites = run_suites(
            model,
            _require_tokenizer(tokenizer, path),
            primer.generate_suites(config.suites),
            chat=chat,
            max_new_tokens=config.max_new_tokens,
            micro_batch_size=config.micro_batch_size,
            advance=advance,
        )
        results["suites"] = {name: dataclasses.asdict(suite) for name, suite in suites.items()}
    return results


def evaluate_task(
    model: TransformerModel,
    tokenizer: Tokenizer,
    config: EvaluationConfig,
    advance: OnProgress | None = None,
) -> JsonObject:
    """The metrics of the model's task on the folder or file `config.examples`: an `ExampleResult` as plain data, and its
    `split` (a file's own path).
    """
    assert config.examples is not None
    found = RowReport()
    if (Path(config.examples) / LINEAGE).is_file():
        report = load_examples_report(config.examples)
        default = "test" if report["splits"]["test"]["examples"] else "validation"
        task, split = report["task"], str(config.examples_split or default)
        rows = iter_examples(config.examples, split)
    elif config.examples_split is not None:
        raise UserError(
            f"--examples-split goes with a folder of examples, and {config.examples} is none",
            "make the folder with `parakit text --task`, or remove the flag",
        )
    else:
        task, split = _task_of(model), config.examples
        rows = (row for _, row in read_examples(config.examples, task, report=found))
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=config.max_new_tokens)
    beams = BeamConfig(n_beams=config.n_beams, max_new_tokens=config.max_new_tokens)
    result = evaluate_examples(
        model,
        tokenizer,
        task,
        rows,
        decoding=greedy if config.n_beams == 1 else beams,
        micro_batch_size=config.micro_batch_size,
        advance=advance,
    )
    for line in skip_summary(found.to_dict()):
        log(f"{config.examples}: {line}")
    return dataclasses.asdict(result) | {"split": split}


def _refuse_inert(config: EvaluationConfig, task: str) -> None:
    """`UserError` for a setting of generated text, where the task generates none."""
    names = ("n_beams",) if config.suites else ("n_beams", "max_new_tokens")
    for name in names if task != "translate" else ():
        if name in config.model_fields_set:
            raise UserError(
                f"{name} = {getattr(config, name)} has no effect: the task {task} generates nothing",
                "remove it",
            )


def _task_of(model: TransformerModel) -> str:
    """The task of this model; `UserError` for a model without examples of its task."""
    kind = model_kind(model)
    task = next((name for name in kind.capabilities if name in TASK_FORMATS), None) if kind else None
    if kind is None or task is None:
        raise UserError(
            f"this model is {kind.description if kind else 'of an unknown kind'} and has no task with examples",
            "tune it for one: parakit finetune --task classify",
        )
    return task


def write_evaluation(
    path: str | Path,
    results: JsonObject,
    config: EvaluationConfig,
    *,
    overwrite: bool = False,
    card: str | None = None,
) -> Path:
    """Write results as an artifact of kind "evaluation", with the model and its data as parents, and `card` as README.md."""
    data = (path for path in (config.tokens, config.examples) if path)
    parents = [Path(results["model"]["path"]), *map(Path, data)]
    lineage = Lineage(
        kind="evaluation",
        config=config.model_dump(mode="json"),
        parents=[
            parent for parent in parents if (parent / LINEAGE).is_file()
        ],  # a published model has no lineage
        seed=config.suites.seed if config.suites else None,
        result=summary(results),
    )
    with writing_artifact(path, lineage, overwrite) as folder:
        write_json_atomic(
            folder / RESULTS, results | {"benchmarks": plain_benchmarks(results.get("benchmarks", {}))}
        )
        for name, benchmark in results.get("benchmarks", {}).items():
            write_items(folder, name, benchmark.items)
        if card is not None:
            write_text_atomic(folder / "README.md", card)
    return Path(path)


def summary(results: JsonObject) -> JsonObject:
    """The results without samples and items, and losses without their blocks."""
    examples = results.get("examples")
    if examples is not None:
        examples = {key: value for key, value in examples.items() if key != "samples"}
    losses = {name: without_blocks(loss) for name, loss in results["loss"].items()}
    return {
        **results,
        "loss": losses,
        "examples": examples,
        "suites": without_samples(results["suites"]),
        "benchmarks": plain_benchmarks(results.get("benchmarks", {})),
    }


def without_samples(suites: Mapping[str, Mapping[str, Any]]) -> JsonObject:
    """Suites by name, without their answers."""
    return {
        name: {key: value for key, value in suite.items() if key != "samples"}
        for name, suite in suites.items()
    }


def _losses(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    config: EvaluationConfig,
    advance: OnProgress | None,
) -> JsonObject:
    settings: JsonObject = {"seq_len": config.seq_len, "overlap": config.overlap, "advance": advance}
    losses: JsonObject = {}
    unk_id = tokenizer.unk_id if tokenizer is not None else None
    if config.tokens is not None:
        shards = _matching_shards(config.tokens, config.split, tokenizer, model)
        found = evaluate_loss(model, shards, unk_id=unk_id, **settings)
        digest = hashlib.sha256(np.ascontiguousarray(shards.token_ids).data).hexdigest()
        losses[config.split] = dataclasses.asdict(found) | {"text_digest": digest}
    if config.text:
        reader = _require_tokenizer(tokenizer, "the model folder")
        settings |= {"max_document_chars": config.max_document_chars, "text_start": config.text_start}
        losses["text"] = dataclasses.asdict(evaluate_text(model, reader, config.text, **settings))
    return losses


def _matching_shards(path: str, split: str, tokenizer: Tokenizer | None, model: LanguageModel) -> TokenShards:
    """Shards made with the model's own tokenizer, else a `UserError`."""
    shards = TokenShards.open(path, split)
    hint = "give the raw text with --text, or shards made with the model's tokenizer"
    if tokenizer is not None and shards.tokenizer_digest != tokenizer.digest:
        raise UserError(f"{path}: these token shards were made with another tokenizer than the model's", hint)
    if shards.vocab_size > model.config.vocab_size:
        raise UserError(
            f"{path}: made for {shards.vocab_size} token ids, and the model has {model.config.vocab_size}",
            hint,
        )
    return shards


def _require_tokenizer(tokenizer: Tokenizer | None, path: str | Path) -> Tokenizer:
    if tokenizer is None:
        raise UserError(
            f"{path}: has no tokenizer.json, so it cannot read text", "put the model's tokenizer there"
        )
    return tokenizer
