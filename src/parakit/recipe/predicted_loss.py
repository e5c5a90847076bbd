"""The loss that a scaling law of one's own runs predicts for a build, next to what came out."""

from __future__ import annotations

from parakit.common.progress import log
from parakit.planning.stored_law import read_law
from parakit.reports.summary_parts import PredictedLoss
from parakit.reports.summary_schema import BuildSummary, TrainingSummary

_SAME = {"tokenizer": "tokenizer", "shards": "data"}


def law_data(summary: BuildSummary, figures: TrainingSummary) -> dict[str, str]:
    """What the runs of a law have in common, of a build: the digests of tokenizer and shards, the family, the loss's unit."""
    digests = {entry.stage: entry.digest for entry in summary.lineage}
    found = {name: digests.get(stage, "") for stage, name in _SAME.items()}
    return found | {"family": figures.family, "unit of the loss": figures.loss_unit}


def with_predicted_loss(summary: BuildSummary, folder: str) -> BuildSummary:
    """`summary` with what the law in `folder` predicts for the model that was pre-trained. Without it, and with the reason
    printed, where the law is of other data, or was fitted to this run.
    """
    figures = summary.training("pretrain")
    if figures is None or figures.parameters is None or figures.tokens is None or figures.loss is None:
        log(f"no loss is predicted by {folder}: the build pre-trained no model")
        return summary
    law, data = read_law(folder), law_data(summary, figures)
    if differing := [name for name in data if data[name] != law.data.get(name)]:
        log(f"no loss is predicted by {folder}: its runs have another {differing[0]}")
        return summary
    if law.was_fitted_to(figures.parameters, figures.tokens, figures.loss):
        log(f"no loss is predicted by {folder}: its law was fitted to this run")
        return summary
    found = law.expected(figures.parameters, figures.tokens)
    predicted = PredictedLoss(value=found.loss, low=found.low, high=found.high, law=found.law)
    stages = {**summary.stages, "pretrain": figures.model_copy(update={"predicted_loss": predicted})}
    return summary.model_copy(update={"stages": stages})
