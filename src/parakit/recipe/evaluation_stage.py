"""The evaluation stage: the finished models on the suites and on texts that none of them was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.checkpoints.model_folder import load_model
from parakit.evaluation.perplexity import evaluate_text
from parakit.evaluation.samples import answers, continuations
from parakit.evaluation.suites import run_suites
from parakit.inference.chat_tuned import is_chat_tuned
from parakit.recipe.config import EvaluateConfig
from parakit.text import primer
from parakit.text.config import TextConfig

N_KEPT_ANSWERS = 12  # of each suite and model, for the report; the wrong ones first


def measure(
    config: EvaluateConfig,
    models: Mapping[str, Path],
    advance: Callable[[int], object],
    prompts: Sequence[str] = (),
    questions: Sequence[str] = (),
) -> dict[str, Any]:
    """`suites.<suite>.<model>` with accuracy, interval and answers; `evaluations`, a row for each text
    and model; `samples.<model>`, its continuations of `prompts` or answers to `questions`.
    """
    samples = {}
    suites: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    items = primer.suites(config.suites) if config.suites else {}
    for name, path in models.items():
        model, tokenizer = load_model(path)
        assert tokenizer is not None, "a model that a build made has its tokenizer"
        chat = is_chat_tuned(path)
        samples[name] = (
            answers(model, tokenizer, questions) if chat else continuations(model, tokenizer, prompts)
        )
        if items:
            results = run_suites(
                model, tokenizer, items, chat=chat, max_new_tokens=config.max_new_tokens, advance=advance
            )
            for suite, result in results.items():
                suites.setdefault(suite, {})[name] = _kept(dataclasses.asdict(result))
        for text in config.texts:
            reader = TextConfig(paths=(text,), deduplicate=False)
            loss = evaluate_text(model, tokenizer, (text,), config=reader, advance=advance)
            rows.append(
                {"name": Path(text).name, "model": name, "bytes": loss.n_bytes} | dataclasses.asdict(loss)
            )
    means = {name: _mean(suites, name) for name in models} if suites else {}
    return {
        "suites": suites,
        "suite_mean": means,
        "chance": dict(primer.CHANCE) if suites else {},
        "evaluations": rows,
        "samples": samples,
    }


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    """The figures, and a few of the answers under the names that the report uses."""
    found = sorted(result["samples"], key=lambda sample: sample["correct"])
    n_wrong = sum(not sample["correct"] for sample in found)
    chosen = found[: min(n_wrong, N_KEPT_ANSWERS // 2)]
    chosen += found[n_wrong : n_wrong + N_KEPT_ANSWERS - len(chosen)]
    shown = [
        {
            "prompt": s["question"],
            "completion": s["completion"],
            "answer": s["answer"],
            "correct": s["correct"],
        }
        for s in chosen
    ]
    return result | {"samples": shown}


def _mean(suites: Mapping[str, Mapping[str, Any]], model: str) -> float:
    return sum(results[model]["accuracy"] for results in suites.values()) / len(suites)
