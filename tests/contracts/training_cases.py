"""Small healthy training runs of a decoder, real in every part, which tests break in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.documents import Document
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.shards import TokenShards, document_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TextTrainingConfig, TrainingPlan, resolve
from parakit.training.doctor import CheckResult, DoctorError, raise_first_failure, run_checks
from parakit.training.micro_batches import Objective
from parakit.training.objectives import next_token
from parakit.training.tasks import TASKS, TaskSpec

NAMES = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Finn"]
THINGS = ["a lamp", "the old map", "two apples", "her red coat", "a drum", "some bread"]


def sentences(number: int) -> str:
    who, what = NAMES[number % 6], THINGS[number // 6 % 6]
    return f"{who} found {what} on day {number}. " * (1 + number % 4) + f"Then {who} went home."


DOCUMENTS = [Document(text, "made", len(text.encode())) for text in map(sentences, range(60))]


def conversation(number: int) -> Conversation:
    turns = [Message("system", "Be brief.")] if number % 3 == 0 else []
    for turn in range(1 + number % 3):
        turns += [
            Message("user", f"Who found {THINGS[(number + turn) % 6]}?"),
            Message("assistant", f"{NAMES[number % 6]} did, on day {number}."),
        ]
    return Conversation(tuple(turns))


CONVERSATIONS = [conversation(number) for number in range(60)]


@dataclass(frozen=True)
class TrainingCase:
    """Everything that the doctor reads."""

    model: LanguageModel
    tokenizer: Tokenizer
    shards: TokenShards
    source: BatchSource
    plan: TrainingPlan
    spec: TaskSpec
    objective: Objective = next_token
    frozen: Callable[[str], bool] | None = None

    def replace(self, **changes: Any) -> TrainingCase:
        """A copy with changes. Other shards also replace the batches."""
        if "shards" in changes and "source" not in changes:
            changes["source"] = BatchSource(
                changes["shards"], self.source.seq_len, self.source.seed, self.source.packing
            )
        return replace(self, **changes)

    @property
    def task(self) -> str:
        return self.spec.name

    def results(self) -> list[CheckResult]:
        return run_checks(
            self.model, self.tokenizer, self.source, self.shards, self.plan, self.objective, self.spec,
            frozen=self.frozen,
        )  # fmt: skip

    def failures(self) -> list[str]:
        return [result.name for result in self.results() if not result.passed]

    def first_failure(self) -> str:
        """The name of the error that stops the run, or "healthy"."""
        try:
            raise_first_failure(self.results())
        except DoctorError as error:
            return error.name
        return "healthy"


def make_model(vocab_size: int, **changes: Any) -> LanguageModel:
    settings = {
        "vocab_size": vocab_size, "d_model": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1,
        "head_dim": 8, "d_ff": 24, "max_seq_len": 96,
    }  # fmt: skip
    torch.manual_seed(0)
    return LanguageModel(DecoderConfig(**settings | changes))


def shards_of(ids: list[list[int]], masks: list[list[bool]] | None, tokenizer: Tokenizer) -> TokenShards:
    return TokenShards(
        token_ids=np.concatenate([np.array(one, np.uint16) for one in ids]),
        offsets=np.cumsum([0, *map(len, ids)]),
        loss_mask=None if masks is None else np.concatenate([np.array(one, np.uint8) for one in masks]),
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        tokenizer_digest=tokenizer.digest,
    )


def plain_shards(tokenizer: Tokenizer) -> TokenShards:
    before, after = document_boundaries(tokenizer, "decoder")
    ids = [[*before, *tokenizer.encode(d.text), *after] for d in DOCUMENTS]
    return replace(shards_of(ids, None, tokenizer), end_ids=tuple(after))


def chat_shards(tokenizer: Tokenizer, conversations: list[Conversation] = CONVERSATIONS) -> TokenShards:
    chats = [compile_chat(tokenizer, one) for one in conversations]
    return shards_of([c.token_ids for c in chats], [c.loss_mask for c in chats], tokenizer)


def make_plan(shards: TokenShards, seq_len: int = 64, **changes: Any) -> TrainingPlan:
    config = TextTrainingConfig(
        seq_len=seq_len, batch_tokens=8 * seq_len, max_steps=20, device="cpu", **changes
    )
    return resolve(
        config, learning_rate=0.02, embedding_learning_rate=0.004, batch_tokens=512, max_seq_len=max(96, seq_len),
        n_train_tokens=shards.n_tokens,
    )  # fmt: skip


def make_case(
    tokenizer: Tokenizer,
    task: str,
    packing: str | None = None,
    seq_len: int = 96,
    conversations: list[Conversation] = CONVERSATIONS,
    **shape: Any,
) -> TrainingCase:
    shards = plain_shards(tokenizer) if task == "next_token" else chat_shards(tokenizer, conversations)
    source = BatchSource(shards, seq_len, 0, packing or ("concat" if task == "next_token" else "pack"))
    model = make_model(tokenizer.vocab_size, **shape)
    return TrainingCase(model, tokenizer, shards, source, make_plan(shards, seq_len), TASKS[task])


class ChangedSource(BatchSource):
    """Real batches with one mistake."""

    def __init__(self, source: BatchSource, change: Callable[[Batch], Batch]) -> None:
        super().__init__(source.shards, source.seq_len, source.seed, source.packing)
        self.change = change

    def rows(self, start_row: int, n_rows: int) -> Batch:
        return self.change(super().rows(start_row, n_rows))


def with_batches(case: TrainingCase, change: Callable[[Batch], dict[str, Any]]) -> TrainingCase:
    """`change` returns the wrong fields of a batch."""
    return case.replace(source=ChangedSource(case.source, lambda batch: replace(batch, **change(batch))))


def with_masks(case: TrainingCase, change: Callable[[list[int], list[bool]], list[bool]]) -> TrainingCase:
    """`change` returns another loss mask for a conversation's ids and mask."""
    chats = [compile_chat(case.tokenizer, one) for one in CONVERSATIONS]
    masks = [change(chat.token_ids, list(chat.loss_mask)) for chat in chats]
    return case.replace(shards=shards_of([chat.token_ids for chat in chats], masks, case.tokenizer))


def with_ids(case: TrainingCase, change: Callable[[list[int]], list[int]]) -> TrainingCase:
    """`change` returns other ids for those of a document or conversation; the loss mask stays aligned with the end."""
    shards = case.shards
    ids, masks = [], []
    for begin, end in zip(shards.offsets[:-1].tolist(), shards.offsets[1:].tolist(), strict=True):
        old = shards.token_ids[begin:end].tolist()
        new = change(old)
        ids.append(new)
        if shards.loss_mask is not None:
            mask = (shards.loss_mask[begin:end] > 0).tolist()
            masks.append([False] * max(len(new) - len(old), 0) + mask[max(len(old) - len(new), 0) :])
    return case.replace(shards=shards_of(ids, masks or None, case.tokenizer))
