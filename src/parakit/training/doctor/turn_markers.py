"""Structure of token ids: where documents begin, the role of each turn, which tokens are the assistant's.

It is derived from the turn markers among the ids, never from a loss mask or from the code that made one, so that the
checks can compare the two. A third-party tokenizer without Parakit's turn markers has no `TurnMarkers`.
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
class Span:
    """Consecutive tokens of one document; `counted[i]`: token i counts as a target. The first token of a batch's span
    never does.
    """

    token_ids: list[int]
    counted: list[bool]


@dataclass(frozen=True)
class TurnMarkers:
    """Ids of the control tokens that structure a conversation."""

    roles: dict[int, str]
    end_id: int
    bos_id: int | None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TurnMarkers | None:
        """None where the tokenizer lacks Parakit's turn markers."""
        turns = tokenizer.turn_ids
        if END_OF_TURN not in turns or "assistant" not in turns:
            return None
        return cls(
            {turns[role]: role for role in ROLES if role in turns}, turns[END_OF_TURN], tokenizer.bos_id
        )

    def assistant_mask(self, token_ids: list[int]) -> list[bool | None]:
        """Whether each token belongs to an assistant's turn, its end included; None before the first marker of a span
        that begins inside a turn.
        """
        state: bool | None = None
        mask = []
        for token_id in token_ids:
            mask.append(state)
            if token_id in self.roles:
                state = self.roles[token_id] == "assistant"
            elif token_id in (self.end_id, self.bos_id):
                state = False
        return mask

    def assistant_turns(self, token_ids: list[int]) -> list[range]:
        """Positions of each assistant's turn, its end included; the last turn may lack its end."""
        turns, start = [], None
        for i, is_assistant in enumerate(self.assistant_mask(token_ids)):
            if is_assistant and start is None:
                start = i
            if start is not None and not is_assistant:
                turns.append(range(start, i))
                start = None
        return turns if start is None else [*turns, range(start, len(token_ids))]

    def messages(self, token_ids: list[int]) -> list[tuple[str, range]]:
        """Role and content positions of every closed turn, in order."""
        turns, role, start = [], "", 0
        for i, token_id in enumerate(token_ids):
            if token_id in self.roles:
                role, start = self.roles[token_id], i + 1
            elif token_id == self.end_id and role:
                turns.append((role, range(start, i)))
                role = ""
        return turns


def count_context_turns(spans: Iterable[Span], turn_markers: TurnMarkers | None) -> list[Span]:
    """The spans with every wholly uncounted assistant's turn counted: for data that marks some turns as context."""
    result = []
    for span in spans:
        counted = list(span.counted)
        for turn in turn_markers.assistant_turns(span.token_ids) if turn_markers else ():
            if not any(counted[i] for i in turn):
                counted[turn.start : turn.stop] = [i > 0 for i in turn]
        result.append(Span(span.token_ids, counted))
    return result


def sample_documents(shards: TokenShards, max_documents: int = 192, max_tokens: int = 2048) -> list[Span]:
    """Documents spread evenly over the split, each with at most its first `max_tokens`."""
    n = len(shards.offsets) - 1
    documents = []
    for i in np.unique(np.linspace(0, n - 1, min(max_documents, n)).astype(int)) if n else ():
        start, end = (
            int(shards.offsets[i]),
            min(int(shards.offsets[i + 1]), int(shards.offsets[i]) + max_tokens),
        )
        counted = (
            [False] + [True] * (end - start - 1)
            if shards.loss_mask is None
            else (shards.loss_mask[start:end] > 0).tolist()
        )
        documents.append(Span(shards.token_ids[start:end].tolist(), counted))
    return [document for document in documents if document.token_ids]


def document_spans(batch: Batch) -> Iterator[Span]:
    """The documents' parts in a batch's rows, each as its first input followed by its targets, without padding."""
    for row in range(len(batch.input_ids)):
        documents = batch.document_ids[row]
        for begin, end in segments(documents):
            if documents[begin] >= 0:
                token_ids = [int(batch.input_ids[row, begin]), *batch.target_ids[row, begin:end].tolist()]
                yield Span(token_ids, [False, *batch.loss_mask[row, begin:end].tolist()])


def segments(values: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of each run of equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    begins = [0, *edges.tolist()]
    return list(zip(begins, [*edges.tolist(), len(values)], strict=True))


def boundaries(batch: Batch, row: int, start_id: int | None) -> list[int]:
    """Columns of `row` at which another document begins, derived from the tokens: the text does not continue there, or
    the input is what begins a document (`openings.document_start`).
    """
    inputs, targets, real = batch.input_ids[row], batch.target_ids[row], batch.document_ids[row] >= 0
    new = inputs[1:] != targets[:-1]
    if start_id is not None:
        new |= inputs[1:] == start_id
    return (np.flatnonzero(new & real[1:] & real[:-1]) + 1).tolist()
