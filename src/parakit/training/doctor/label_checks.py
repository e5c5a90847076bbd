"""Checks on labels and templates (pitfalls 1 to 9): what is counted, how conversations begin and end, and
whether training and serving write them alike.

Each function takes what it looks at and returns the fault in words, or None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from parakit.common.errors import UserError
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.chat.template import compile_chat, end_of_turn_id, response_prefix
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.doctor.turns import Grammar, Stretch

MAX_LOST_SHARE = 0.01
_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def pad_is_eos(tokenizer: Tokenizer, shards: TokenShards) -> str | None:
    """Padding that is also an end would teach never to end, or to end in padding."""
    ends = {tokenizer.eos_id: "EOS", tokenizer.turn_ids.get("end"): "the end of a turn"}
    for pad_id in {tokenizer.pad_id, shards.pad_id} - {None}:
        if pad_id in ends:
            return f"id {pad_id} is both PAD and {ends[pad_id]}"
    return None


def ids_outside(documents: Sequence[Stretch], vocab_size: int) -> str | None:
    """Ids that the embedding has no row for."""
    greatest = max((max(document.token_ids) for document in documents), default=0)
    return (
        f"the shards hold id {greatest}, the model's vocabulary ends at {vocab_size - 1}"
        if greatest >= vocab_size
        else None
    )


def tokenizer_differs(tokenizer: Tokenizer, shards: TokenShards) -> str | None:
    """Shards made by another tokenizer: the ids mean other text."""
    if shards.tokenizer_digest and shards.tokenizer_digest != tokenizer.digest:
        return f"the shards were made by tokenizer {shards.tokenizer_digest[:12]}, this one is {tokenizer.digest[:12]}"
    return None


def all_masked(batches: Iterable[Batch], documents: Sequence[Stretch]) -> str | None:
    """Nothing counts: the loss is 0 or NaN and nothing is learned."""
    if not any(any(document.counted[1:]) for document in documents):
        return f"none of the {len(documents)} documents looked at has a counted token"
    if not any(batch.loss_mask.any() for batch in batches):
        return "the first batches have no counted token"
    return None


def truncation(source: BatchSource, shards: TokenShards, most: int = 512) -> str | None:
    """Conversations of which cutting at the row's end leaves nothing counted. A rare one (up to 1 %) is let
    pass; many are a fault.
    """
    if source.packing != "pack" or shards.loss_mask is None:
        return None
    n_pairs = np.diff(shards.offsets) - 1
    long = np.flatnonzero(n_pairs > source.seq_len)
    looked = (
        long[np.unique(np.linspace(0, len(long) - 1, min(most, len(long))).astype(int))]
        if len(long)
        else long
    )
    lost = 0
    for start, n in zip(np.asarray(shards.offsets)[looked].tolist(), n_pairs[looked].tolist(), strict=True):
        counted = np.asarray(shards.loss_mask[start + 1 : start + 1 + n]) > 0
        lost += bool(counted.any() and not counted[: source.seq_len].any())
    share = lost / max(len(looked), 1) * len(long) / max(len(n_pairs), 1)
    if share <= MAX_LOST_SHARE:
        return None
    return f"cutting at seq_len = {source.seq_len} takes every counted token from {share:.0%} of the conversations"


def only_last_turn(stretches: Iterable[Stretch], grammar: Grammar | None) -> str | None:
    """Of several assistant turns only the last counts."""
    if grammar is None:
        return None
    hit = n = 0
    for stretch in stretches:
        said = [
            any(stretch.counted[i] for i in turn)
            for turn in grammar.assistant_turns(stretch.token_ids)
            if turn.start > 0
        ]
        if len(said) > 1:
            n += 1
            hit += said[-1] and not any(said[:-1])
    return (
        f"in {hit} of {n} conversations with several assistant turns only the last one counts"
        if hit
        else None
    )


def no_end_of_turn(stretches: Iterable[Stretch], tokenizer: Tokenizer, grammar: Grammar | None) -> str | None:
    """The token that ends an assistant's turn is never, or not always, learned: the model does not stop."""
    end_id = grammar.end_id if grammar else end_of_turn_id(tokenizer)
    if end_id is None:
        return "the chat template has no token that ends an assistant's turn"
    ends = counted = 0
    for stretch in stretches:
        last = (
            [turn[-1] for turn in grammar.assistant_turns(stretch.token_ids)]
            if grammar
            else range(len(stretch.token_ids))
        )
        closing = [i for i in last if i and stretch.token_ids[i] == end_id]
        ends += len(closing)
        counted += sum(stretch.counted[i] for i in closing)
    missed = counted < ends if grammar else False  # a foreign end of turn closes the user's turns too
    if counted == 0 or missed:
        return f"{counted} of {ends} ends of an assistant's turn are counted"
    return None


def no_end_of_text(
    documents: Sequence[Stretch], stretches: Iterable[Stretch], eos_id: int | None
) -> str | None:
    """Documents that do not end in EOS, or whose EOS does not count: the model never stops."""
    if eos_id is None:
        return "the tokenizer has no EOS"
    open_ends = sum(
        document.token_ids[-1] != eos_id for document in documents if len(document.token_ids) < 2048
    )
    if open_ends:
        return f"{open_ends} of {len(documents)} documents do not end in EOS"
    eos = [
        counts
        for s in stretches
        for token, counts in zip(s.token_ids[1:], s.counted[1:], strict=True)
        if token == eos_id
    ]
    return f"{len(eos) - sum(eos)} of {len(eos)} EOS targets do not count" if not all(eos) else None


def loss_on_prompt(stretches: Iterable[Stretch], grammar: Grammar | None) -> str | None:
    """Counted tokens that no assistant said."""
    wrong = counted = 0
    for stretch in stretches:
        counted += sum(stretch.counted)
        if grammar is None:
            wrong += all(stretch.counted[1:]) and len(stretch.counted) > 1
        else:
            expected = grammar.expected(stretch.token_ids)
            wrong += sum(
                counts and known is False for known, counts in zip(expected, stretch.counted, strict=True)
            )
    if not wrong:
        return None
    return (
        f"{wrong} of {counted} counted tokens are the prompt's"
        if grammar
        else f"in {wrong} conversations every token counts"
    )


def answer_not_counted(stretches: Iterable[Stretch], grammar: Grammar | None) -> str | None:
    """An assistant's words that do not count."""
    if grammar is None:
        return None
    missed = said = 0
    for stretch in stretches:
        for i, expected in enumerate(grammar.expected(stretch.token_ids)):
            if expected and i:
                said += 1
                missed += not stretch.counted[i]
    return f"{missed} of {said} tokens that an assistant says are not counted" if missed else None


def bos_at_start(documents: Sequence[Stretch], tokenizer: Tokenizer, chat: bool) -> str | None:
    """BOS stands exactly once, at the start: not doubled by template and tokenizer, not missing."""
    bos_id = tokenizer.bos_id
    if bos_id is None or bos_id == tokenizer.eos_id:
        return None
    wanted = compile_chat(tokenizer, _PROBE).token_ids.count(bos_id) if chat else 1
    for document in documents:
        n = document.token_ids.count(bos_id)
        if n > 1:
            return f"a document holds {n} BOS tokens"
        if wanted == 1 and document.token_ids[0] != bos_id:
            return "a document does not begin with BOS"
    return None


def template_differs(
    documents: Sequence[Stretch], tokenizer: Tokenizer, grammar: Grammar | None, most: int = 8
) -> str | None:
    """The shards' conversations, written again by the tokenizer's own template, must give the same ids; a
    prompt must be how an answer's conversation begins.
    """
    try:
        prompt = compile_chat(tokenizer, _PROBE[:1], add_generation_prompt=True).token_ids
        whole = compile_chat(tokenizer, _PROBE).token_ids
        if whole[: len(prompt)] != prompt:
            return "the generation prompt is not how an assistant's turn begins in training"
        if grammar is None:
            return None
        found = (_rewritten(d.token_ids, tokenizer, grammar) for d in documents[:most])
        return next(filter(None, found), None) or _unwritten_space(documents, tokenizer, grammar)
    except UserError as error:
        return f"the chat template fails: {error.message}"


def _unwritten_space(documents: Sequence[Stretch], tokenizer: Tokenizer, grammar: Grammar) -> str | None:
    """Users' turns that all begin with a space, as of a template that writes one, where this one writes none."""
    if response_prefix(tokenizer):
        return None
    asked = [
        tokenizer.decode(document.token_ids[span.start : span.stop])
        for document in documents
        for role, span in grammar.messages(document.token_ids)
        if role == "user"
    ]
    if len(asked) < 2 or not all(text.startswith(" ") for text in asked):
        return None
    return "every user's turn of the shards begins with a space, and this template writes none"


def _rewritten(token_ids: list[int], tokenizer: Tokenizer, grammar: Grammar) -> str | None:
    spans = grammar.messages(token_ids)
    if not spans or spans[-1][1].stop != len(token_ids) - 1:
        return None  # cut short, or it ends in what is no turn
    contents = [token_ids[span.start : span.stop] for _, span in spans]
    lead = response_prefix(tokenizer)
    turns = [
        {"role": role, "content": tokenizer.decode(ids).removeprefix(lead)}
        for (role, _), ids in zip(spans, contents, strict=True)
    ]
    exact = all(
        tokenizer.encode(lead + turn["content"]) == ids for turn, ids in zip(turns, contents, strict=True)
    )

    def comparable(
        ids: list[int],
    ) -> list[int]:  # text that does not survive decoding is left out of the comparison
        return ids if exact else [i for i in ids if i in tokenizer.control_ids]

    if comparable(compile_chat(tokenizer, turns).token_ids) != comparable(token_ids):
        return "the template writes a conversation of the shards with other ids"
    for number, (role, span) in enumerate(spans):
        if role == "assistant" and number:
            prompt = compile_chat(tokenizer, turns[:number], add_generation_prompt=True).token_ids
            if comparable(prompt) != comparable(token_ids[: span.start]):
                return "the prompt that serving would send is not how the shards' conversation begins"
    return None


def forged_control(tokenizer: Tokenizer) -> str | None:
    """A control token that text can spell."""
    for form in tokenizer.special_tokens:
        forged = tokenizer.control_ids.intersection(tokenizer.encode(f"a{form} b"))
        if forged:
            return f"the text {form!r} becomes control token {min(forged)}"
    return None


def control_in_text(documents: Sequence[Stretch], tokenizer: Tokenizer) -> str | None:
    """Control tokens inside a plain document."""
    for document in documents:
        inside = tokenizer.control_ids.intersection(document.token_ids[1:-1])
        if inside:
            return f"control token {min(inside)} stands inside a document's text"
    return None
