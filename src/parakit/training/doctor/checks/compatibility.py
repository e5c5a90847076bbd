"""Model, tokenizer and data belong together: head, vocabulary, window, special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from parakit.model.config import ClassifierConfig, EncoderDecoderConfig
from parakit.model.heads import Classifier
from parakit.tokens.shards import document_boundaries
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import token_fields
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.openings import opening
from parakit.training.doctor.row_formats import ALL, CLASSES, DECODER, NAMED_LABELS, NOT_DECODER

check = partial(registry.check, subject="Model, tokenizer and data")
PROBE_MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
_ENCODE_AGAIN = "Encode the data again with this version and this tokenizer."


@check(
    "head-differs",
    applies_to=ALL,
    blocking=True,
    prevents="The model has the head of another task, and its outputs mean something else than the labels.",
    noticed_by="The model's class, and the level and kind of a classifier's head, are compared with the task's.",
    remedy="Build the model for this task and these labels.",
)
def head_differs(context: CheckContext) -> str | None:
    model, spec = context.model, context.spec
    if not isinstance(model, spec.models):
        return f"task {spec.name} trains a {spec.models[0].__name__}, and this is a {type(model).__name__}"
    return _classifier_differs(model.classes, spec.name) if isinstance(model, Classifier) else None


def _classifier_differs(classes: ClassifierConfig, task: str) -> str | None:
    level = {"tag": "token", "answer": "span"}.get(task, "sequence")
    if classes.level != level:
        return f"the head labels each {classes.level}, and {task} labels each {level}"
    if classes.regression != (task == "regress"):
        output = "a score" if classes.regression else "a choice among labels"
        return f"the head predicts {output}, which does not fit {task}"
    if classes.multi_label != (task == "multi_label"):
        output = "any number of labels" if classes.multi_label else "one of its labels"
        return f"the head predicts {output}, which does not fit {task}"
    return None


@check(
    "ids-outside-vocabulary",
    applies_to=ALL,
    blocking=True,
    prevents="Token ids without a row in the embedding crash the run on a GPU, or read another token's row.",
    noticed_by="The largest token id of the data is compared with the model's vocab_size.",
    remedy="Train with the tokenizer that the model was made for.",
)
def ids_outside_vocabulary(context: CheckContext) -> str | None:
    vocab_size = context.model.config.vocab_size
    if context.spec.row_format in DECODER:
        largest = max((max(document.token_ids) for document in context.documents), default=0)
    else:
        fields = ((batch, name) for batch in context.sample for name in token_fields(batch))
        largest = max(int(getattr(batch, name).max(initial=0)) for batch, name in fields)
    if largest < vocab_size:
        return None
    return f"the data has id {largest}, the model's vocabulary ends at {vocab_size - 1}"


@check(
    "rows-too-long",
    applies_to=NOT_DECODER,
    blocking=True,
    prevents="Rows longer than the model's window crash the run, or use positions that were never trained.",
    noticed_by="The width of every sampled batch is compared with max_seq_len of the side that reads it.",
    remedy="Lower seq_len to the model's max_seq_len.",
)
def rows_too_long(context: CheckContext) -> str | None:
    config = context.model.config
    for batch in context.sample:
        for name, real in token_fields(batch).items():
            limit = config.max_seq_len
            if isinstance(config, EncoderDecoderConfig):
                limit = (config.encoder if name == "source_ids" else config.decoder).max_seq_len
            if real.shape[-1] > limit:
                return f"{name} are {real.shape[-1]} wide, the model's window has {limit} tokens"
    return None


@check(
    "labels-differ",
    applies_to=NAMED_LABELS,
    blocking=True,
    prevents="A class number means one label in the data and another in the head, so every prediction is misnamed.",
    noticed_by="The head's labels are compared with the data's, in their order.",
    remedy="Build the model for this task and these labels.",
)
def labels_differ(context: CheckContext) -> str | None:
    head, data = context.model.classes.labels, tuple(getattr(context.shards, "labels", ()))
    if not data or data == head:
        return None
    for number, (in_head, in_data) in enumerate(zip(head, data, strict=False)):
        if in_head != in_data:
            return f"label {number} is {in_head!r} in the head and {in_data!r} in the data"
    return f"the head has {len(head)} labels, the data {len(data)}"


@check(
    "label-out-of-range",
    applies_to=CLASSES,
    blocking=True,
    prevents="A class number without an output crashes the run on a GPU, or reads memory of another output.",
    noticed_by="Every label of the sampled rows is compared with the number of outputs.",
    remedy="Build the model for this task and these labels.",
)
def label_out_of_range(context: CheckContext) -> str | None:
    n_labels, names = len(context.model.classes.labels), getattr(context.shards, "labels", ())
    labels = counted_labels(context.sample)
    wrong = labels[(labels < 0) | (labels >= n_labels)]
    if not len(wrong):
        return None
    label = int(wrong[0])
    name = f" ({names[label]!r})" if 0 <= label < len(names) else ""
    return f"label {label}{name} occurs, and the head has {n_labels} labels, 0 to {n_labels - 1}"


def counted_labels(batches: Sequence) -> np.ndarray:
    """Every label that counts, as its number."""
    labels = [b.labels if b.loss_mask is None else b.labels[b.loss_mask] for b in batches]
    return np.concatenate([one if one.ndim == 1 else np.nonzero(one)[1] for one in labels])


@check(
    "pad-is-eos",
    applies_to=(*DECODER, "source_target"),
    prevents="The end token is masked together with the padding, so the model never learns to stop.",
    noticed_by="The padding id of tokenizer and data is compared with EOS and the end of a turn.",
    remedy="Give padding a token of its own.",
    sources=("unsloth #416", "trl #734", "llm-course #33"),
)
def pad_is_eos(context: CheckContext) -> str | None:
    tokenizer = context.tokenizer
    ends = {tokenizer.eos_id: "EOS", tokenizer.turn_ids.get("end"): "the end of a turn"}
    for pad_id in {tokenizer.pad_id, context.shards.pad_id} - {None}:
        if pad_id in ends:
            return f"id {pad_id} is both PAD and {ends[pad_id]}"
    return None


@check(
    "tokenizer-differs",
    applies_to=ALL,
    prevents="Data that another tokenizer encoded is other text to this one; training continues on noise.",
    noticed_by="The digest of the tokenizer in the data is compared with the model's.",
    remedy=_ENCODE_AGAIN,
)
def tokenizer_differs(context: CheckContext) -> str | None:
    in_data, digest = context.shards.tokenizer_digest, context.tokenizer.digest
    if not in_data or in_data == digest:
        return None
    return f"the data was encoded by tokenizer {in_data[:12]}, the model's is {digest[:12]}"


@check(
    "forged-control-token",
    applies_to=ALL,
    prevents="A user who types a control token ends the turn or takes another role.",
    noticed_by="The text of every special token is encoded, and no control token may come out.",
    remedy="Encode text with special tokens switched off.",
    sources=("transformers #29279",),
)
def forged_control_token(context: CheckContext) -> str | None:
    tokenizer = context.tokenizer
    for text in tokenizer.special_tokens:
        forged = tokenizer.control_ids.intersection(tokenizer.encode(f"a{text} b"))
        if forged:
            return f"the text {text!r} becomes control token {min(forged)}"
    return None


@check(
    "double-bos",
    applies_to=DECODER,
    prevents="BOS comes twice, once from the template and once from the tokenizer, or not at all: training and serving"
    " begin differently.",
    noticed_by="BOS is counted in sampled documents, and compared with what the tokenizer and the chat template write.",
    remedy=_ENCODE_AGAIN,
    sources=("open-r1 PR #462", "transformers #37686"),
)
def double_bos(context: CheckContext) -> str | None:
    expected = opening(context.tokenizer, context.spec.row_format)
    if expected is None:
        return None
    return next(filter(None, (expected.fault(document.token_ids) for document in context.documents)), None)


@check(
    "control-token-in-text",
    applies_to=("text", "prefixed_text"),
    prevents="Control tokens inside plain text teach the model to end or to change roles in the middle of a document.",
    noticed_by="Sampled documents are searched for control tokens between those that the tokenizer puts around them.",
    remedy=_ENCODE_AGAIN,
)
def control_token_in_text(context: CheckContext) -> str | None:
    tokenizer = context.tokenizer
    before, after = (
        text_boundaries(tokenizer) if tokenizer.eos_id is None else document_boundaries(tokenizer, "decoder")
    )
    for document in context.documents:
        ids = document.token_ids[len(before) :]
        text = ids[: -len(after)] if after and ids[-len(after) :] == after else ids[:-1]
        inside = tokenizer.control_ids.intersection(text)
        if inside:
            return f"control token {min(inside)} is inside a document's text"
    return None
