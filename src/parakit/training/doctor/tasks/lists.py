"""The list of checks of each kind: names that stay, the pitfall each is there for, the way out.

As for decoders the narrow ones stand before the wide ones, and what a model cannot be run on before all else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parakit.model.heads import (
    Classifier,
    Embedder,
    LanguageModel,
    MaskedLanguageModel,
    RewardModel,
    SequenceToSequence,
)
from parakit.training.doctor import batch_checks, gradients, label_checks, model_checks
from parakit.training.doctor.case import Case, Check, Kind
from parakit.training.doctor.tasks import answer_checks, behaviour, ranking_checks, row_checks

_DATA = "write the examples or shards again with this version and this tokenizer"
_BATCHES = "the batches are not what training needs; leave a changed source out, or report this as a fault of Parakit"
_LOSS = "an objective returns the sum over what counts in the batch, nothing else"
_RANKINGS = "encode the preferences through the chat template, with Parakit's own encoder"
_HEAD = "build the model for this task and these labels"

TOKENS: tuple[Kind, ...] = ("masked", "span_corruption", "translate", "prefix")
PAIRS: tuple[Kind, ...] = ("span_corruption", "translate", "prefix")
CLASSES: tuple[Kind, ...] = ("classify", "tag")
LABELLED: tuple[Kind, ...] = ("classify", "tag", "regress")
# What a micro-batch's loss is made of is its own pairs in "embed", and no sum over places.
SUMS: tuple[Kind, ...] = (*TOKENS, *LABELLED)
RANKED: tuple[Kind, ...] = ("reward", "dpo")
_MODELS: dict[str, type[Any]] = {
    "masked": MaskedLanguageModel,
    "span_corruption": SequenceToSequence,
    "translate": SequenceToSequence,
    "prefix": SequenceToSequence,
    "classify": Classifier,
    "tag": Classifier,
    "regress": Classifier,
    "embed": Embedder,
    "pretrain": LanguageModel,
    "chat": LanguageModel,
    "reward": RewardModel,
    "dpo": LanguageModel,
}


def model_differs(case: Case) -> str | None:
    """A model of another kind than what is learned."""
    wanted = (LanguageModel, SequenceToSequence) if case.kind == "prefix" else (_MODELS[case.kind],)
    if not isinstance(case.model, wanted):
        return f"{case.kind} is learned by {wanted[0].__name__}, and this is {type(case.model).__name__}"
    if isinstance(case.model, Classifier):
        return answer_checks.head_differs(case.model.classes, case.kind)
    return None


def _check(
    name: str, pitfall: int, title: str, hint: str, look: Callable[[Case], str | None], *only: Kind
) -> Check:
    return Check(name, pitfall, title, hint, look, only)


ROW_CHECKS = (
    _check("head-differs", 21, "The model has the head for this", _HEAD, model_differs),
    _check("ids-outside-vocabulary", 10, "Every id has an embedding", "train with the tokenizer that the model was made for",
           lambda c: row_checks.ids_outside(c.sample, c.model.config.vocab_size)),
    _check("rows-too-long", 3, "Rows fit into the model's window", "lower seq_len",
           lambda c: row_checks.too_long(c.sample, c.model.config)),
    _check("labels-differ", 8, "The head's labels are the data's", _HEAD,
           lambda c: answer_checks.labels_differ(c.model.classes, getattr(c.shards, "labels", ())), *CLASSES),
    _check("label-out-of-range", 10, "Every label has an output", _HEAD,
           lambda c: answer_checks.labels_outside(c.sample, len(c.model.classes.labels), getattr(c.shards, "labels", ())),
           *CLASSES),
    _check("all-masked", 2, "Something counts", "look at the examples: none of them has anything to learn",
           lambda c: row_checks.nothing_counts([c.batch])),
    _check("pad-is-eos", 5, "PAD is no end token", "give padding a token of its own",
           lambda c: label_checks.pad_is_eos(c.tokenizer, c.shards), *PAIRS),
    _check("tokenizer-differs", 8, "The data was encoded by this tokenizer", _DATA,
           lambda c: label_checks.tokenizer_differs(c.tokenizer, c.shards)),
    _check("forged-control-token", 9, "Text cannot spell a control token", "encode text with special tokens off",
           lambda c: label_checks.forged_control(c.tokenizer)),
    _check("label-never-seen", 2, "Every label has an example", "leave the label out, or add examples of it",
           lambda c: answer_checks.labels_absent(c.sample, c.model.classes) if c.sample_is_all else None, *CLASSES),
    _check("only-one-label", 2, "There is something to tell apart", "add examples of another label",
           lambda c: answer_checks.one_label(c.sample), *CLASSES),
    _check("scores-unfit", 2, "Scores are numbers that differ", "look at the column of scores",
           lambda c: answer_checks.scores_unfit(c.sample), "regress"),
    _check("scores-unscaled", 22, "Scores are of a size that can be learned", "divide them, so that they lie around 1",
           lambda c: answer_checks.scores_unscaled(c.sample), "regress"),
    _check("no-negatives", 2, "A pair has others to be told from", "raise micro_batch_size",
           lambda c: answer_checks.no_negatives(c.plan.micro_batch_size), "embed"),
    _check("texts-empty", 2, "Texts have tokens", _DATA, lambda c: answer_checks.texts_empty(c.sample), "embed"),
    _check("texts-equal", 2, "The two texts of a pair differ", "look at the examples: one column is taken twice",
           lambda c: answer_checks.texts_equal(c.sample), "embed"),
    _check("loss-on-padding", 1, "Padding does not count", _BATCHES,
           lambda c: row_checks.loss_on_padding(c.batch, c.tokenizer.pad_id), *TOKENS, "tag"),
    _check("special-masked", 1, "Control tokens are not to be guessed", _BATCHES,
           lambda c: row_checks.special_masked([c.batch], c.tokenizer), "masked"),
    _check("mask-everywhere", 2, "Something is left to guess from", "lower the share of tokens that are masked",
           lambda c: row_checks.mask_everywhere([c.batch]), "masked"),
    _check("targets-shift", 16, "Hidden tokens are their own places' targets", _BATCHES,
           lambda c: row_checks.masked_targets_shift(c.batch), "masked"),
    _check("mask-absent", 16, "Hidden tokens are hidden", _BATCHES,
           lambda c: row_checks.mask_absent([c.batch], c.tokenizer.mask_id), "masked"),
    _check("documents-leak", 14, "Texts in a row are told apart", _BATCHES,
           lambda c: row_checks.framed_documents_unmarked(c.batch, c.tokenizer.cls_id), "masked"),
    _check("positions-run-on", 14, "Positions restart with each text", _BATCHES,
           lambda c: batch_checks.positions_run_on(c.batch), "masked"),
    _check("source-empty", 2, "Every target has a source", _DATA, lambda c: row_checks.source_empty(c.batch), *PAIRS),
    _check("targets-shift", 16, "Target inputs are the targets, shifted once", _BATCHES,
           lambda c: row_checks.targets_shift(c.batch), *PAIRS),
    _check("decoder-start", 16, "Targets begin with the start id", _BATCHES,
           lambda c: row_checks.wrong_start(c.batch, c.model.config.decoder_start_id), *PAIRS),
    _check("no-end-of-text", 4, "The end of a target is learned", _DATA,
           lambda c: row_checks.eos_not_counted([c.batch], c.tokenizer.eos_id), *PAIRS),
    _check("source-is-target", 2, "Source and target differ", "look at the examples: one column is taken twice",
           lambda c: row_checks.source_is_target(c.sample, c.tokenizer), "translate"),
    _check("sentinels-differ", 16, "Sentinels say what is missing where", _BATCHES,
           lambda c: row_checks.sentinels_differ(c.batch, c.tokenizer), "span_corruption"),
    _check("lone-completion", 2, "A ranking has something to tell apart", _RANKINGS,
           lambda c: ranking_checks.lone_completion(c.sample), *RANKED),
    _check("loss-on-padding", 1, "Padding does not count", _BATCHES,
           lambda c: ranking_checks.padding_counted(c.batch), *RANKED),
    _check("targets-shift", 16, "Targets are the inputs, shifted once", _BATCHES,
           lambda c: ranking_checks.targets_shift(c.batch), *RANKED),
    _check("seam-differs", 33, "The completions of a ranking share their prompt's tokens", _RANKINGS,
           lambda c: ranking_checks.seam_differs(c.sample), *RANKED),
    _check("loss-on-prompt", 1, "Only the completion counts, and all of it", _RANKINGS,
           lambda c: ranking_checks.prompt_counted(c.sample, c.grammar), *RANKED),
    _check("no-end-of-turn", 4, "The end of an answer is learned", _RANKINGS,
           lambda c: ranking_checks.end_not_counted(c.sample, c.grammar), *RANKED),
    _check("identical-completions", 2, "No completion is ranked against itself", _RANKINGS,
           lambda c: ranking_checks.identical_completions(c.sample), *RANKED),
    _check("reference-differs", 34, "Policy and reference begin as one model", "compute what the reference says from the"
           " model that is tuned, before its first step and in evaluation mode",
           lambda c: ranking_checks.reference_differs(c.model, c.batch), "dpo"),
    _check("count-differs", 11, "What counts is counted right", _BATCHES, lambda c: row_checks.count_differs(c.batch)),
    _check("rows-change", 24, "A row is the same whenever it is read", _BATCHES,
           lambda c: row_checks.rows_change(c.source, c.batch)),
    _check("rank-rows", 12, "Ranks share a step's rows", _BATCHES, lambda c: batch_checks.rank_rows_overlap(c.plan.n_rows)),
)  # fmt: skip
BEHAVIOUR_CHECKS = (
    _check("tied-embeddings", 20, "Embeddings are tied as the settings say", "build the model from its settings",
           lambda c: model_checks.ties_differ(c.model), *TOKENS, "dpo"),
    _check("decay-on-norms", 19, "Weight decay falls on matrices only", "group parameters by what they are",
           lambda c: model_checks.decay_on_norms(c.model)),
    _check("dropout-in-evaluation", 17, "Evaluation is not random", "use nn.Dropout, and call model.eval()",
           lambda c: model_checks.dropout_in_evaluation(c.model, c.probe)),
    _check("attention-direction", 14, "Encoders look both ways, decoders back", "build the trunk from its settings",
           lambda c: behaviour.looks_wrong_way(c.model, c.probe)),
    _check("future-leak", 14, "A target token is not seen before it is written", "the decoder's attention must be causal",
           lambda c: behaviour.target_future_leaks(c.model, c.probe), *PAIRS),
    _check("source-ignored", 14, "Predictions depend on the source", "the decoder needs its cross-attention",
           lambda c: behaviour.source_ignored(c.model, c.probe), *PAIRS),
    _check("padding-seen", 14, "Padding is not looked at", "padded rows need an attention mask",
           lambda c: behaviour.padding_seen(c.model, c.probe)),
    _check("documents-leak", 14, "Packed texts do not see each other", "packed rows need a block-diagonal attention mask",
           lambda c: behaviour.documents_leak(c.model, c.probe), *TOKENS),
    _check("targets-shift", 16, "The objective does not shift again", _LOSS,
           lambda c: model_checks.objective_shifts(c.model, c.probe, c.objective), *TOKENS),
    _check("accumulation-weights", 11, "Accumulation changes no gradient", _LOSS,
           lambda c: gradients.accumulation_weights(c.model, c.probe, c.objective, c.gradient), *SUMS, *RANKED),
    _check("last-window", 15, "A smaller last micro-batch changes no gradient", _LOSS,
           lambda c: gradients.last_window(c.model, c.probe, c.objective, c.gradient), *SUMS, *RANKED),
    _check("rank-weights", 12, "The ranks' gradients add up", _LOSS,
           lambda c: gradients.rank_weights(c.model, c.probe, c.objective, c.gradient), *SUMS, *RANKED),
    _check("uncounted-targets", 1, "The objective looks at counted targets only", _LOSS,
           lambda c: gradients.uncounted_targets_matter(c.model, c.probe, c.objective), *SUMS),
    _check("masked-micro-batch", 13, "A micro-batch without anything counted does no harm", _LOSS,
           lambda c: gradients.masked_micro_batch(c.model, c.probe, c.objective), *SUMS),
    _check("objective-differs", 11, "The loss is the sum over what counts", _LOSS,
           lambda c: behaviour.objective_differs(c.model, c.probe, c.objective), *SUMS),
    _check("uncounted-targets", 1, "The objective looks at counted targets only", _LOSS,
           lambda c: ranking_checks.prompt_matters_to_loss(c.model, c.probe, c.objective), "dpo"),
    _check("prefers-the-worse", 35, "A step lifts the better completions", _LOSS,
           lambda c: ranking_checks.prefers_the_worse(c.model, c.probe, c.objective), *RANKED),
    _check("half-precision-loss", 22, "The loss is taken in float32", _LOSS,
           lambda c: gradients.half_precision_loss(c.model, c.probe, c.objective, c.plan.precision)),
    _check("no-gradient", 21, "Every parameter that should train does",
           "set requires_grad, and leave no part of the model unused",
           lambda c: gradients.no_gradient(c.model, c.reached, c.frozen)),
    _check("frozen-gradient", 21, "What should stay as it is does", "set requires_grad to False",
           lambda c: gradients.frozen_gradient(c.model, c.reached, c.frozen)),
)  # fmt: skip
