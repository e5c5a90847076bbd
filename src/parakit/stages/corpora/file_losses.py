"""Bits per byte of the finished model by file of the held-out text, so that one sees what is odd: a file that costs far more
than the others is another language, broken or made of numbers; one that costs far less repeats itself or others.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median

from parakit.common.files import JsonObject
from parakit.common.lineages import find_ancestors
from parakit.data.corpus import iter_corpus
from parakit.evaluation.perplexity import evaluate_loss
from parakit.model.heads import LanguageModel, TransformerModel
from parakit.stages.job import PreparedRun
from parakit.stages.tasks import Splits, first_documents
from parakit.tokens.shard_parts import select_documents
from parakit.tokens.shards import TokenShards
from parakit.training.config import TrainingPlan

MIN_FILES, MIN_BYTES = 3, 200  # fewer tell nothing
MAX_FILES = 200  # that are measured, in the order of the corpus
N_SHOWN = 10  # those farthest from the median


def add_file_losses(run: PreparedRun, splits: Splits, shards: Path) -> PreparedRun:
    """`run` with the losses by file, where its corpus is still there and it measures bits per byte."""

    def summarize(figures: JsonObject) -> JsonObject:
        figures = run.summarize(figures)
        if "bits_per_byte" not in figures or run.setup.plan.in_parts:
            return figures
        plan = TrainingPlan.parse(figures["plan"], "the plan of this run")
        found = losses_by_file(run.setup.model, splits.validation, shards, plan)
        return figures | ({"file_losses": found} if found else {})

    return replace(run, summarize=summarize)


def losses_by_file(
    model: TransformerModel, validation: object, shards: Path, plan: TrainingPlan
) -> list[JsonObject]:
    """{"file", "documents", "bytes", "bits_per_byte", "times": of the files' median}, the farthest from the median first."""
    corpus = next(iter(find_ancestors(shards).of_kinds("corpus")), None)
    if corpus is None or not isinstance(validation, TokenShards):
        return []
    assert isinstance(model, LanguageModel)
    part = first_documents(validation, plan.validation_tokens)
    numbers: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for number, document in enumerate(islice(iter_corpus(corpus, "validation"), part.n_documents)):
        if document.file not in numbers and len(numbers) == MAX_FILES:
            break
        numbers.setdefault(document.file, []).append(number)
        sizes[document.file] = sizes.get(document.file, 0) + document.n_bytes
    if len(numbers) < MIN_FILES:
        return []
    rows: list[JsonObject] = []
    for file, mine in numbers.items():
        text = select_documents(part, mine, sizes[file])
        if sizes[file] >= MIN_BYTES and text.n_counted:
            cost = evaluate_loss(model, text, seq_len=plan.seq_len).bits_per_byte
            rows.append({"file": file, "documents": len(mine), "bytes": sizes[file], "bits_per_byte": cost})
    if len(rows) < MIN_FILES:
        return []
    middle = median(row["bits_per_byte"] for row in rows)
    rows = [row | {"times": row["bits_per_byte"] / middle} for row in rows if row["bits_per_byte"] > 0]
    return sorted(rows, key=lambda row: -max(row["times"], 1 / row["times"]))[:N_SHOWN]
