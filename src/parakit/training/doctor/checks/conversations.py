"""Conversations: which turns count, how an answer ends, and whether training and serving write one alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens.batches.batch import RankingBatch
from parakit.tokens.chat.template import compile_chat, end_of_turn_id, response_prefix
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import completions
from parakit.training.doctor.checks.compatibility import PROBE_MESSAGES
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.openings import lost_by_template
from parakit.training.doctor.turn_markers import Span, TurnMarkers

check = partial(registry.check, subject="Conversations and templates")
MAX_REWRITTEN = 8
_ENCODE_AGAIN = "Encode the conversations again with this version and this tokenizer."


@check(
    "answers-truncated",
    applies_to=("conversations",),
    prevents="Cutting long conversations at the row's end removes their answers, which then cost time and teach nothing, or"
    " every end of an answer, and the model never stops.",
    noticed_by="The conversations of the first rows are searched for counted tokens; where every answer is cut, for an end"
    " of turn.",
    remedy="Raise seq_len, shorten the conversations, or take a model with a longer window.",
    sources=("trl PR #6025",),
)
def answers_truncated(context: CheckContext) -> str | None:
    source = context.source
    if source.packing != "pack" or context.shards.loss_mask is None:
        return None
    empty = sum(not any(span.counted) for span in context.row_spans)
    if empty:
        return f"cut at seq_len = {source.seq_len}, {empty} of {len(context.row_spans)} conversations teach nothing"
    rows = getattr(source, "long_rows", None)
    if rows is None or rows.n_answers_cut < rows.n_rows - rows.n_left_out:
        return None
    end_id = _end_id(context)
    if any(end_id in _counted_ids(span) for span in context.row_spans):
        return None
    return f"every answer is cut at seq_len = {source.seq_len}, so no end of a turn is learned"


def _end_id(context: CheckContext) -> int | None:
    return context.turn_markers.end_id if context.turn_markers else end_of_turn_id(context.tokenizer)


def _counted_ids(span: Span) -> list[int]:
    return [token_id for token_id, counted in zip(span.token_ids, span.counted, strict=True) if counted]


@check(
    "only-last-turn",
    applies_to=("conversations",),
    prevents="Only the last answer of each conversation counts; the others are paid for and not learned.",
    noticed_by="Conversations with several assistant's turns are searched for ones of which only the last counts.",
    remedy=_ENCODE_AGAIN + " Give turns that should not count weight 0 in the data.",
    sources=("axolotl #1761",),
)
def only_last_turn(context: CheckContext) -> str | None:
    turn_markers = context.turn_markers
    if turn_markers is None:
        return None
    hit = n = 0
    for span in _counted_spans(context):
        counted = [
            any(span.counted[i] for i in turn)
            for turn in turn_markers.assistant_turns(span.token_ids)
            if turn.start > 0
        ]
        if len(counted) > 1:
            n += 1
            hit += counted[-1] and not any(counted[:-1])
    return (
        f"in {hit} of {n} conversations with several assistant's turns only the last one counts"
        if hit
        else None
    )


def _counted_spans(context: CheckContext) -> list[Span]:
    """Conversations of the data and of the first rows, in which every assistant's turn should count."""
    return context.without_context_turns([*context.documents, *context.row_spans])


@check(
    "no-end-of-turn",
    applies_to=("conversations", "rankings"),
    prevents="The token that ends an assistant's turn is never, or not always, learned: the model does not stop.",
    noticed_by="The ends of the assistant's turns are compared with the loss mask.",
    remedy=_ENCODE_AGAIN,
    sources=("axolotl #3754",),
)
def no_end_of_turn(context: CheckContext) -> str | None:
    turn_markers = context.turn_markers
    if isinstance(context.batch, RankingBatch):
        return _end_not_counted(context.sample, turn_markers) if turn_markers else None
    in_data = _missed_ends(context.without_context_turns(context.documents), context.tokenizer, turn_markers)
    cut = getattr(context.source, "long_rows", None)
    if in_data or context.source.packing != "pack" or (cut and cut.n_answers_cut and not _has_end(context)):
        return in_data  # rows of cut answers end in none
    return _missed_ends(context.without_context_turns(context.row_spans), context.tokenizer, turn_markers)


def _has_end(context: CheckContext) -> bool:
    """Whether an end of turn, counted or not, is in the first rows."""
    end_id = _end_id(context)
    return any(end_id in span.token_ids[1:] for span in context.row_spans)


def _missed_ends(spans: Iterable[Span], tokenizer: Tokenizer, turn_markers: TurnMarkers | None) -> str | None:
    end_id = turn_markers.end_id if turn_markers else end_of_turn_id(tokenizer)
    if end_id is None:
        return "the chat template has no token that ends an assistant's turn"
    ends = counted = 0
    for span in spans:
        last = (
            [turn[-1] for turn in turn_markers.assistant_turns(span.token_ids)]
            if turn_markers
            else range(len(span.token_ids))
        )
        closing = [i for i in last if i and span.token_ids[i] == end_id]
        ends += len(closing)
        counted += sum(span.counted[i] for i in closing)
    missed = (
        counted < ends if turn_markers else False
    )  # a third-party end of turn closes the user's turns too
    return f"{counted} of {ends} ends of an assistant's turn are counted" if counted == 0 or missed else None


def _end_not_counted(batches: Sequence[RankingBatch], turn_markers: TurnMarkers) -> str | None:
    ends = [
        bool(counted[-1] and ids[-1] == turn_markers.end_id)
        for batch in batches
        for _, _, ids, counted in completions(batch)
    ]
    n = ends.count(False)
    return f"{n} of {len(ends)} completions do not end with a counted end of turn" if n else None


@check(
    "loss-on-prompt",
    applies_to=("conversations", "rankings"),
    prevents="The loss counts what the user or the system wrote, so the model learns to write questions.",
    noticed_by="The loss mask is compared with the assistant's turns, which are derived from the turn markers.",
    remedy=_ENCODE_AGAIN + " The loss counts the assistant's turns only, and of a ranking the completion.",
    sources=("nanochat #570", "axolotl #2089"),
)
def loss_on_prompt(context: CheckContext) -> str | None:
    turn_markers = context.turn_markers
    if isinstance(context.batch, RankingBatch):
        return _completion_mask_differs(context.sample, turn_markers)
    wrong = n = 0
    for span in [*context.documents, *context.row_spans]:
        n += sum(span.counted)
        if turn_markers is None:
            wrong += all(span.counted[1:]) and len(span.counted) > 1
        else:
            mask = turn_markers.assistant_mask(span.token_ids)
            wrong += sum(
                c and is_assistant is False for is_assistant, c in zip(mask, span.counted, strict=True)
            )
    if not wrong:
        return None
    if turn_markers is None:
        return f"in {wrong} conversations every token counts"
    return f"{wrong} of {n} counted tokens belong to the prompt"


def _completion_mask_differs(batches: Sequence[RankingBatch], turn_markers: TurnMarkers | None) -> str | None:
    """Counted tokens outside the completion, or tokens of the completion that do not count."""
    for batch in batches:
        for row, place, ids, counted in completions(batch):
            where = f"ranking {row}, completion {place}"
            if not counted.any():
                return f"{where}: none of its tokens counts"
            first = int(np.argmax(counted))
            if not counted[first:].all():
                return f"{where}: a token inside the completion does not count"
            if turn_markers is None:
                continue
            turns = turn_markers.assistant_turns(ids.tolist())
            if not turns:
                return f"{where}: tokens {first} to {len(ids)} count, and there is no assistant's turn"
            last = turns[-1]
            if (last.start, last.stop) != (first, len(ids)):
                turn = f"the last assistant's turn is {last.start} to {last.stop}"
                return f"{where}: tokens {first} to {len(ids)} count, and {turn}"
    return None


@check(
    "answer-not-counted",
    applies_to=("conversations",),
    prevents="Parts of the assistant's turns are masked and never learned.",
    noticed_by="The assistant's turns, which are derived from the turn markers, are compared with the loss mask.",
    remedy=_ENCODE_AGAIN,
    sources=("marin #7237", "trl PR #5988"),
)
def answer_not_counted(context: CheckContext) -> str | None:
    if context.turn_markers is None:
        return None
    missed = n = 0
    for span in _counted_spans(context):
        for i, is_assistant in enumerate(context.turn_markers.assistant_mask(span.token_ids)):
            if is_assistant and i:
                n += 1
                missed += not span.counted[i]
    return f"{missed} of {n} tokens of the assistant's turns are not counted" if missed else None


@check(
    "template-loses-answer",
    applies_to=("conversations", "rankings"),
    prevents="The chat template leaves out the assistant's text, or does not end its turn: every label is masked, or the end"
    " is never learned, while the run looks healthy.",
    noticed_by="A conversation of two answers is compiled through the tokenizer's chat template; both texts must count, and"
    " after each of them a special token.",
    remedy="Use a template that writes the content of every assistant's message, and a special token after it.",
    sources=("marin #7237", "unsloth #11321", "trl PR #5988"),
)
def template_loses_answer(context: CheckContext) -> str | None:
    return lost_by_template(context.tokenizer)


@check(
    "template-differs",
    applies_to=("conversations",),
    prevents="Training and serving write a conversation with different tokens, and answers get worse without a reason.",
    noticed_by="Sampled conversations are compiled again with the tokenizer's own chat template; ids must be equal, and a"
    " prompt must be how its conversation begins.",
    remedy="Encode the conversations again with the chat template that will serve.",
    sources=("LLaMA-Factory #2509",),
)
def template_differs(context: CheckContext) -> str | None:
    tokenizer, documents, turn_markers = context.tokenizer, context.documents, context.turn_markers
    try:
        prompt = compile_chat(tokenizer, PROBE_MESSAGES[:1], add_generation_prompt=True).token_ids
        question, answer = PROBE_MESSAGES
        forms = [
            answer,
            answer | {"reasoning_content": "c"},
            answer | {"content": "<think>\nc\n</think>\n\nb"},
        ]
        begins = (compile_chat(tokenizer, [question, form]).token_ids[: len(prompt)] for form in forms)
        if prompt not in begins:  # a prompt may open the reasoning, with which an answer then begins
            return "the generation prompt is not how an assistant's turn begins in training"
        if turn_markers is None:
            return None
        faults = (_recompiled(d.token_ids, tokenizer, turn_markers) for d in documents[:MAX_REWRITTEN])
        return next(filter(None, faults), None) or _extra_space(documents, tokenizer, turn_markers)
    except UserError as error:
        return f"the chat template fails: {error.message}"


def _extra_space(documents: Sequence[Span], tokenizer: Tokenizer, turn_markers: TurnMarkers) -> str | None:
    """User's turns that all begin with a space, as some templates write one, where this template writes none."""
    if response_prefix(tokenizer):
        return None
    questions = [
        tokenizer.decode(document.token_ids[span.start : span.stop])
        for document in documents
        for role, span in turn_markers.messages(document.token_ids)
        if role == "user"
    ]
    if len(questions) < 2 or not all(text.startswith(" ") for text in questions):
        return None
    return "every user's turn of the shards begins with a space, and this template writes none"


def _recompiled(token_ids: list[int], tokenizer: Tokenizer, turn_markers: TurnMarkers) -> str | None:
    spans = turn_markers.messages(token_ids)
    if not spans or spans[-1][1].stop != len(token_ids) - 1:
        return None  # cut short, or it does not end with a turn
    contents = [token_ids[span.start : span.stop] for _, span in spans]
    lead = response_prefix(tokenizer)
    turns = [
        {"role": role, "content": tokenizer.decode(ids).removeprefix(lead)}
        for (role, _), ids in zip(spans, contents, strict=True)
    ]
    pairs = zip(turns, contents, strict=True)
    exact = all(tokenizer.encode(lead + turn["content"]) == ids for turn, ids in pairs)

    def comparable(ids: list[int]) -> list[int]:  # without text that does not survive decoding
        return ids if exact else [i for i in ids if i in tokenizer.control_ids]

    if comparable(compile_chat(tokenizer, turns).token_ids) != comparable(token_ids):
        return "the template writes a conversation of the shards with other ids"
    for number, (role, span) in enumerate(spans):
        if role == "assistant" and number:
            prompt = compile_chat(tokenizer, turns[:number], add_generation_prompt=True).token_ids
            if comparable(prompt) != comparable(token_ids[: span.start]):
                return "the prompt that serving would send is not how the shards' conversation begins"
    return None
