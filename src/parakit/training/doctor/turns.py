"""What a stream of tokens says about itself: where documents begin, who speaks, which tokens an assistant
says.

Everything here is derived from the ids alone, by their turn markers, and never from a loss mask or from the
code that made one: the checks hold the two against each other. A foreign tokenizer without our turn markers
gives no grammar, and the checks that need one say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from parakit.tokens.batches.batch import Batch
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.special_tokens import END_OF_TURN, ROLES
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Stretch:
    """Consecutive tokens of one document; `counted[i]` says whether token i counts as a target. The first of
    a batch's piece never does.
    """

    token_ids: list[int]
    counted: list[bool]


@dataclass(frozen=True)
class Grammar:
    """Ids that structure a conversation."""

    roles: dict[int, str]
    end_id: int
    bos_id: int | None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Grammar | None:
        """The grammar of our own turn markers; None where the tokenizer has others."""
        turns = tokenizer.turn_ids
        if END_OF_TURN not in turns or "assistant" not in turns:
            return None
        return cls(
            {turns[role]: role for role in ROLES if role in turns}, turns[END_OF_TURN], tokenizer.bos_id
        )

    def expected(self, token_ids: list[int]) -> list[bool | None]:
        """Whether each token is an assistant's word or the end of its turn; None before the first marker of a
        cut piece.
        """
        state: bool | None = None
        answers = []
        for token_id in token_ids:
            answers.append(state)
            if token_id in self.roles:
                state = self.roles[token_id] == "assistant"
            elif token_id in (self.end_id, self.bos_id):
                state = False
        return answers

    def assistant_turns(self, token_ids: list[int]) -> list[range]:
        """Positions of each assistant turn's words and its end of turn; the last one may lack its end."""
        turns, start = [], None
        for i, expected in enumerate(self.expected(token_ids)):
            if expected and start is None:
                start = i
            if start is not None and not expected:
                turns.append(range(start, i))
                start = None
        return turns if start is None else [*turns, range(start, len(token_ids))]

    def messages(self, token_ids: list[int]) -> list[tuple[str, range]]:
        """Role and content positions of every closed turn, in order."""
        found, role, start = [], "", 0
        for i, token_id in enumerate(token_ids):
            if token_id in self.roles:
                role, start = self.roles[token_id], i + 1
            elif token_id == self.end_id and role:
                found.append((role, range(start, i)))
                role = ""
        return found


def with_context(stretches: Iterable[Stretch], grammar: Grammar | None) -> list[Stretch]:
    """Assistant's turns of which no token counts taken for context, as if all of them did: for data that says of some
    turns that they are.
    """
    found = []
    for stretch in stretches:
        counted = list(stretch.counted)
        for turn in grammar.assistant_turns(stretch.token_ids) if grammar else ():
            if not any(counted[i] for i in turn):
                counted[turn.start : turn.stop] = [i > 0 for i in turn]
        found.append(Stretch(stretch.token_ids, counted))
    return found


def sampled_documents(shards: TokenShards, most: int = 192, max_tokens: int = 2048) -> list[Stretch]:
    """Up to `most` documents spread evenly over the split, each with at most its first `max_tokens`."""
    n = len(shards.offsets) - 1
    documents = []
    for i in np.unique(np.linspace(0, n - 1, min(most, n)).astype(int)) if n else ():
        start, end = (
            int(shards.offsets[i]),
            min(int(shards.offsets[i + 1]), int(shards.offsets[i]) + max_tokens),
        )
        counted = (
            [False] + [True] * (end - start - 1)
            if shards.loss_mask is None
            else (shards.loss_mask[start:end] > 0).tolist()
        )
        documents.append(Stretch(shards.token_ids[start:end].tolist(), counted))
    return [document for document in documents if document.token_ids]


def pieces(batch: Batch) -> Iterator[Stretch]:
    """The documents' pieces in a batch's rows, each as its first input followed by its targets; padding is
    left out.
    """
    for row in range(len(batch.input_ids)):
        documents = batch.document_ids[row]
        for begin, end in runs(documents):
            if documents[begin] >= 0:
                token_ids = [int(batch.input_ids[row, begin]), *batch.target_ids[row, begin:end].tolist()]
                yield Stretch(token_ids, [False, *batch.loss_mask[row, begin:end].tolist()])


def runs(values: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of each run of equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    begins = [0, *edges.tolist()]
    return list(zip(begins, [*edges.tolist(), len(values)], strict=True))


def breaks(batch: Batch, row: int, bos_id: int | None) -> list[int]:
    """Columns of `row` at which another document begins, seen from the tokens alone: the text does not go on
    there, or BOS stands there.
    """
    inputs, targets, real = batch.input_ids[row], batch.target_ids[row], batch.document_ids[row] >= 0
    new = inputs[1:] != targets[:-1]
    if bos_id is not None:
        new |= inputs[1:] == bos_id
    return (np.flatnonzero(new & real[1:] & real[:-1]) + 1).tolist()
