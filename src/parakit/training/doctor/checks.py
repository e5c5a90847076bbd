"""The list of checks of decoders: names that stay, the pitfall each is there for, the way out.

The order matters: the first fault found is the one a run is stopped with, so the narrow ones (only the last
turn counts) stand before the wide ones (some answer is not counted).
"""

from __future__ import annotations

from parakit.training.doctor import batch_checks, gradients, label_checks, model_checks
from parakit.training.doctor.case import Case, Check, Kind
from parakit.training.doctor.tasks import behaviour, row_checks
from parakit.training.doctor.tasks.lists import model_differs

_SHARDS = "write the shards again with this version and this tokenizer"
_BATCHES = "the batches are not what training needs; leave a changed batch source out, or report this as a fault of Parakit"
_LOSS = "an objective returns the sum over the batch's counted tokens, nothing else"
_ONE_WAY: tuple[Kind, ...] = ("pretrain", "chat")

LABEL_CHECKS = (
    Check(
        "head-differs",
        21,
        "The model has the head for this",
        "train a decoder that predicts tokens",
        model_differs,
    ),
    Check(
        "pad-is-eos",
        5,
        "PAD is no end token",
        "give padding a token of its own",
        lambda c: label_checks.pad_is_eos(c.tokenizer, c.shards),
    ),
    Check(
        "ids-outside-vocabulary",
        10,
        "Every id has an embedding",
        "train with the tokenizer that the model was made for",
        lambda c: label_checks.ids_outside(c.documents, c.model.config.vocab_size),
    ),
    Check(
        "tokenizer-differs",
        8,
        "The shards were made by this tokenizer",
        _SHARDS,
        lambda c: label_checks.tokenizer_differs(c.tokenizer, c.shards),
    ),
    Check(
        "double-bos",
        6,
        "BOS stands once, at the start",
        _SHARDS,
        lambda c: label_checks.bos_at_start(c.documents, c.tokenizer, c.is_chat),
    ),
    Check(
        "forged-control-token",
        9,
        "Text cannot spell a control token",
        "encode text with special tokens off",
        lambda c: label_checks.forged_control(c.tokenizer),
    ),
    Check(
        "control-token-in-text",
        9,
        "No control token inside a document",
        _SHARDS,
        lambda c: label_checks.control_in_text(c.documents, c.tokenizer),
        ("pretrain", "prefix"),
    ),
    Check(
        "all-masked",
        2,
        "Some tokens count",
        "look with `parakit doctor --show`; only an assistant's words count in conversations",
        lambda c: label_checks.all_masked([c.batch], c.documents),
    ),
    Check(
        "answers-truncated",
        3,
        "Cutting long conversations leaves their answers",
        "raise seq_len, or shorten the conversations",
        lambda c: label_checks.truncation(c.source, c.shards),
        ("chat",),
    ),
    Check(
        "only-last-turn",
        7,
        "Every assistant turn counts",
        _SHARDS,
        lambda c: label_checks.only_last_turn(c.said([*c.documents, *c.pieces]), c.grammar),
        ("chat",),
    ),
    Check(
        "no-end-of-turn",
        4,
        "The end of an answer is learned",
        _SHARDS,
        lambda c: _no_end_of_turn(c),
        ("chat",),
    ),
    Check(
        "no-end-of-text",
        4,
        "The end of a document is learned",
        _SHARDS,
        lambda c: label_checks.no_end_of_text(c.documents, c.pieces, c.tokenizer.eos_id),
        ("pretrain", "prefix"),
    ),
    Check(
        "loss-on-padding",
        1,
        "Padding does not count",
        _BATCHES,
        lambda c: batch_checks.loss_on_padding(c.batch, c.tokenizer.pad_id),
    ),
    Check(
        "loss-on-prompt",
        1,
        "Only the assistant's words count",
        _SHARDS,
        lambda c: label_checks.loss_on_prompt([*c.documents, *c.pieces], c.grammar),
        ("chat",),
    ),
    Check(
        "answer-not-counted",
        2,
        "All of the assistant's words count",
        _SHARDS,
        lambda c: label_checks.answer_not_counted(c.said([*c.documents, *c.pieces]), c.grammar),
        ("chat",),
    ),
    Check(
        "template-differs",
        8,
        "Training and serving write a conversation alike",
        "write the shards again with the chat template that will serve",
        lambda c: label_checks.template_differs(c.documents, c.tokenizer, c.grammar),
        ("chat",),
    ),
)
BATCH_CHECKS = (
    Check(
        "targets-shift",
        16,
        "Targets are the inputs, shifted once",
        _BATCHES,
        lambda c: batch_checks.targets_shift(c.batch),
    ),
    Check(
        "documents-leak",
        14,
        "Documents in a row are told apart",
        _BATCHES,
        lambda c: batch_checks.documents_unmarked(c.batch, c.tokenizer.bos_id),
    ),
    Check(
        "positions-run-on",
        14,
        "Positions restart with each document",
        _BATCHES,
        lambda c: batch_checks.positions_run_on(c.batch),
    ),
    Check(
        "rows-not-in-data",
        16,
        "Rows stand in the data",
        _BATCHES,
        lambda c: batch_checks.rows_not_in_data(c.pieces, c.shards),
    ),
    Check(
        "count-differs",
        11,
        "Counted tokens are counted right",
        _BATCHES,
        lambda c: batch_checks.count_differs(c.batch),
    ),
    Check(
        "rows-change",
        24,
        "A row is the same whenever it is read",
        _BATCHES,
        lambda c: row_checks.rows_change(c.source, c.batch),
    ),
    Check(
        "rank-rows",
        12,
        "Ranks share a step's rows",
        _BATCHES,
        lambda c: batch_checks.rank_rows_overlap(c.plan.n_rows),
    ),
)
MODEL_CHECKS = (
    Check(
        "tied-embeddings",
        20,
        "Embeddings are tied as the settings say",
        "build the model from its settings",
        lambda c: model_checks.ties_differ(c.model),
    ),
    Check(
        "decay-on-norms",
        19,
        "Weight decay falls on matrices only",
        "group parameters by what they are",
        lambda c: model_checks.decay_on_norms(c.model),
    ),
    Check(
        "future-leak",
        14,
        "A prediction does not see what comes after it",
        "attention must be causal",
        lambda c: model_checks.future_leaks(c.model, c.probe),
        _ONE_WAY,
    ),
    Check(
        "future-leak",
        14,
        "A prediction does not see its target",
        "only places whose target is behind the prefix may count, and behind it attention must be causal",
        lambda c: behaviour.answers_visible(c.model, c.probe),
        ("prefix",),
    ),
    Check(
        "attention-direction",
        14,
        "A prefix is read both ways",
        "within a prefix every token may attend to every other",
        lambda c: behaviour.prefix_one_way(c.model, c.probe),
        ("prefix",),
    ),
    Check(
        "documents-leak",
        14,
        "Packed documents do not see each other",
        "packed rows need a block-diagonal attention mask",
        lambda c: model_checks.documents_leak(c.model, c.probe, c.tokenizer.bos_id),
        _ONE_WAY,
    ),
    Check(
        "documents-leak",
        14,
        "Packed documents do not see each other",
        "packed rows need a block-diagonal attention mask",
        lambda c: behaviour.documents_leak(c.model, c.probe),
        ("prefix",),
    ),
    Check(
        "dropout-in-evaluation",
        17,
        "Evaluation is not random",
        "use nn.Dropout, and call model.eval()",
        lambda c: model_checks.dropout_in_evaluation(c.model, c.probe),
    ),
    Check(
        "targets-shift",
        16,
        "The objective does not shift again",
        _LOSS,
        lambda c: model_checks.objective_shifts(c.model, c.probe, c.objective),
    ),
    Check(
        "accumulation-weights",
        11,
        "Accumulation changes no gradient",
        _LOSS,
        lambda c: gradients.accumulation_weights(c.model, c.probe, c.objective, c.gradient),
    ),
    Check(
        "last-window",
        15,
        "A smaller last micro-batch changes no gradient",
        _LOSS,
        lambda c: gradients.last_window(c.model, c.probe, c.objective, c.gradient),
    ),
    Check(
        "rank-weights",
        12,
        "The ranks' gradients add up",
        _LOSS,
        lambda c: gradients.rank_weights(c.model, c.probe, c.objective, c.gradient),
    ),
    Check(
        "loss-on-prompt",
        1,
        "The objective looks at counted targets only",
        _LOSS,
        lambda c: gradients.uncounted_targets_matter(c.model, c.probe, c.objective),
    ),
    Check(
        "masked-micro-batch",
        13,
        "A micro-batch without counted tokens does no harm",
        _LOSS,
        lambda c: gradients.masked_micro_batch(c.model, c.probe, c.objective),
    ),
    Check(
        "objective-differs",
        11,
        "The loss is the counted tokens' cross-entropy",
        _LOSS,
        lambda c: model_checks.objective_differs(c.model, c.probe, c.objective),
    ),
    Check(
        "half-precision-loss",
        22,
        "The loss is taken in float32",
        _LOSS,
        lambda c: gradients.half_precision_loss(c.model, c.probe, c.objective, c.plan.precision),
    ),
    Check(
        "no-gradient",
        21,
        "Every parameter that should train does",
        "set requires_grad, and leave no part of the model unused",
        lambda c: gradients.no_gradient(c.model, c.reached, c.frozen),
    ),
    Check(
        "frozen-gradient",
        21,
        "What should stay as it is does",
        "set requires_grad to False",
        lambda c: gradients.frozen_gradient(c.model, c.reached, c.frozen),
    ),
)


def _no_end_of_turn(case: Case) -> str | None:
    """In the conversations, and in the rows too where these hold whole conversations."""
    in_data = label_checks.no_end_of_turn(case.said(case.documents), case.tokenizer, case.grammar)
    if in_data or case.source.packing != "pack":
        return in_data
    return label_checks.no_end_of_turn(case.said(case.pieces), case.tokenizer, case.grammar)
