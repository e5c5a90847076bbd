"""The sources of a run after training: the tokens of each as they came out against those wished for, and the loss of the
finished model on held-out text of each, which shows what is odd.
"""

from __future__ import annotations

from dataclasses import replace

from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.evaluation.perplexity import evaluate_loss
from parakit.model.heads import LanguageModel, TransformerModel
from parakit.stages.job import PreparedRun
from parakit.stages.tasks import Splits, first_documents
from parakit.tokens.batches.mixture import MixedSource
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.shard_parts import select_source
from parakit.tokens.shards import TokenShards
from parakit.training.config import TrainingPlan
from parakit.training.row_sources import lengths_of, mixed_rows


def add_mixture(run: PreparedRun, splits: Splits) -> PreparedRun:
    """`run` with the figures of its sources; unchanged where the text has none."""
    source = run.setup.task.source
    mixed = mixed_rows(source)
    if mixed is None:
        return run
    shown = ", ".join(
        f"{name} {share:.0%}" for name, share in zip(mixed.mixture.names, wished_shares(mixed), strict=True)
    )
    log(f"{run.setup.title}: a mixture of {shown}")

    def summarize(figures: JsonObject) -> JsonObject:
        figures = run.summarize(figures)
        plan = TrainingPlan.parse(figures["plan"], "the plan of this run")
        n_rows = plan.rows_before(figures["steps"])
        if isinstance(source, ReplaySource):
            source.follow(lengths_of(plan))
            n_rows -= source.n_replay_rows(n_rows)
        else:
            mixed.follow(lengths_of(plan))
        rows = mixture_rows(mixed, n_rows)
        held_out = (
            losses_by_source(run.setup.model, splits.validation, plan) if "bits_per_byte" in figures else {}
        )
        for number, row in enumerate(rows):
            row |= held_out.get(number, {})
        return figures | {"mixture": rows}

    return replace(run, summarize=summarize)


def wished_shares(mixed: MixedSource) -> list[float]:
    """The share of each source over the whole run as it is planned."""
    return mixed.wished(mixed.phases[-1].end)


def mixture_rows(mixed: MixedSource, n_rows: int) -> list[JsonObject]:
    """A row for each source after `n_rows` rows: tokens that were predicted, their share, the share wished, and epochs."""
    counts = mixed.counts(n_rows)
    tokens = [source.n_pairs_in(n) for source, n in zip(mixed.sources, counts, strict=True)]
    return [
        {
            "name": name,
            "tokens": n,
            "share": n / max(1, sum(tokens)),
            "wished": wish,
            "epochs": rows / source.rows_per_epoch,
        }
        for name, n, wish, rows, source in zip(
            mixed.mixture.names, tokens, mixed.wished(n_rows), counts, mixed.sources, strict=True
        )
    ]


def losses_by_source(
    model: TransformerModel, validation: object, plan: TrainingPlan
) -> dict[int, JsonObject]:
    """Bits per byte and perplexity of held-out text, by the number of its source; none for a source without any."""
    if not isinstance(validation, TokenShards) or validation.source_of is None:
        return {}
    assert isinstance(model, LanguageModel)
    found = {}
    for number in range(len(validation.source_bytes)):
        part = first_documents(select_source(validation, number), plan.validation_tokens)
        if part.n_counted:
            result = evaluate_loss(model, part, seq_len=plan.seq_len)
            found[number] = {"bits_per_byte": result.bits_per_byte, "perplexity": result.perplexity}
    return found
