"""How a document or a conversation begins: what the tokenizer's post-processor and the chat template do with BOS.

A published model's BOS can be its EOS (GPT-2), the opener of every turn (SmolLM2), or absent (Qwen): it marks the begin
of a document only where a document of this tokenizer has it once, in front. What a document should have is derived from
the tokenizer and a small conversation, never from the data that the checks look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from parakit.common.errors import UserError
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.shards import document_boundaries
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

TURNS = ("user", "assistant")
CONVERSATIONS = ("conversations", "rankings")


@dataclass(frozen=True)
class Opening:
    """The BOS tokens of a document: how many it begins with, and how many it has; None where that depends on its
    turns.
    """

    bos_id: int
    n_leading: int
    n_total: int | None

    def fault(self, token_ids: Sequence[int], *, is_whole: bool = True) -> str | None:
        """What is wrong with the BOS tokens of a document; of a part that was cut on the left, `is_whole` is False."""
        n, leading = list(token_ids).count(self.bos_id), _n_leading(token_ids, self.bos_id)
        if leading > self.n_leading:
            return (
                f"a document begins with {leading} BOS tokens, and this tokenizer puts {self.n_leading} there"
            )
        if self.n_total is not None and n > self.n_total:
            return f"a document has {n} BOS tokens, and this tokenizer gives it {self.n_total}"
        if is_whole and leading < self.n_leading:
            return "a document does not begin with BOS"
        return None


def opening(tokenizer: Tokenizer, row_format: str) -> Opening | None:
    """How BOS opens documents of this row format; None without a BOS, or where the template cannot be used."""
    bos_id = tokenizer.bos_id
    if bos_id is None:
        return None
    if row_format not in CONVERSATIONS:
        if tokenizer.eos_id is None:
            return None
        before, after = document_boundaries(tokenizer, "decoder")
        return Opening(bos_id, _n_leading(before, bos_id), [*before, *after].count(bos_id))
    try:
        once, twice = (_compiled(tokenizer, n) for n in (1, 2))
    except UserError:
        return None
    n = once.count(bos_id)
    return Opening(bos_id, _n_leading(once, bos_id), n if n == twice.count(bos_id) else None)


def document_start(tokenizer: Tokenizer, row_format: str) -> int | None:
    """The id that begins every document, and that no later input of it is; None where there is none."""
    if row_format not in CONVERSATIONS:
        before, after = text_boundaries(tokenizer)
        return before[0] if before and before[0] not in (*before[1:], *after[:-1]) else None
    try:
        ids = _compiled(tokenizer, 2)
    except UserError:
        return None
    return ids[0] if ids[0] in tokenizer.control_ids and ids.count(ids[0]) == 1 else None


def padding_only_id(tokenizer: Tokenizer, row_format: str) -> int | None:
    """PAD, where it only ever fills rows: not where it is also UNK, BOS, EOS or what the template writes."""
    pad_id, used = tokenizer.pad_id, {tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id}
    used.update(*text_boundaries(tokenizer))
    if row_format in CONVERSATIONS:
        try:
            used.update(_compiled(tokenizer, 1))
        except UserError:
            return None
    return None if pad_id in used else pad_id


def _compiled(tokenizer: Tokenizer, n_exchanges: int) -> list[int]:
    messages = [{"role": role, "content": "a"} for _ in range(n_exchanges) for role in TURNS]
    return compile_chat(tokenizer, messages).token_ids


def _n_leading(token_ids: Sequence[int], bos_id: int) -> int:
    return next((i for i, token_id in enumerate(token_ids) if token_id != bos_id), len(token_ids))


def lost_by_template(tokenizer: Tokenizer) -> str | None:
    """What the tokenizer's chat template leaves out of a conversation of two answers; None where it writes all."""
    answers = ("alpha", "omega")
    messages = [
        message
        for answer in answers
        for message in ({"role": "user", "content": "a"}, {"role": "assistant", "content": answer})
    ]
    try:
        compiled = compile_chat(tokenizer, messages)
    except UserError:
        return None  # `template-differs` reports it
    turns = [
        [i for i, _ in run]
        for counts, run in groupby(
            zip(compiled.token_ids, compiled.loss_mask, strict=True), key=lambda one: one[1]
        )
        if counts
    ]
    written = [tokenizer.normalize(answer) for answer in answers]
    texts = [tokenizer.decode(ids).replace(" ", "") for ids in turns]
    lost = [answer for answer in written if not any(answer in text for text in texts)]
    if lost and tokenizer.unk_id not in {i for ids in turns for i in ids}:
        place = "every answer" if len(lost) == len(answers) else "one of two answers"
        return f"the chat template leaves out the text of {place}"
    open_ends = sum(ids[-1] not in tokenizer.control_ids for ids in turns)
    return f"{open_ends} of {len(turns)} answers end without a special token" if open_ends else None
