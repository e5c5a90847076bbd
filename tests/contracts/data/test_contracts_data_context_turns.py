"""Turns of weight 0 (context) do not count, and the doctor distinguishes them from lost turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parakit.data.conversations.conversation import Conversation, Message
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.shards import TokenShards, write_shards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.contracts.training_cases import CONVERSATIONS, TrainingCase


def with_context(conversation: Conversation) -> Conversation:
    """All answers but the last are context."""
    last = len(conversation.messages) - 1
    return Conversation(
        tuple(
            replace(message, weight=0) if message.role == "assistant" and at < last else message
            for at, message in enumerate(conversation.messages)
        )
    )


def test_a_turn_of_weight_0_and_its_end_do_not_count(tokenizer: Tokenizer) -> None:
    turns = (
        Message("user", "a"),
        Message("assistant", "b", 0),
        Message("user", "c"),
        Message("assistant", "d"),
    )
    chat = compile_chat(tokenizer, turns)
    plain = compile_chat(tokenizer, [{"role": m.role, "content": m.content} for m in turns])
    assert chat.token_ids == plain.token_ids
    n_last = len(tokenizer.encode("d")) + 1
    assert np.flatnonzero(chat.loss_mask).tolist() == list(
        range(len(chat.token_ids) - n_last, len(chat.token_ids))
    )


@pytest.mark.catches("only-last-turn")
def test_the_doctor_passes_context_and_stops_the_same_mask_without_it(
    chat: TrainingCase, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = write_shards({"train": map(with_context, CONVERSATIONS)}, tokenizer, tmp_path / "shards")
    shards = TokenShards.open(folder, "train")
    assert shards.has_context_turns
    assert chat.replace(shards=shards).failures() == []
    lost = replace(shards, has_context_turns=False)
    assert chat.replace(shards=lost).first_failure() == "only-last-turn"


def test_a_part_of_a_turn_that_is_lost_is_found_among_context_too(
    chat: TrainingCase, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = write_shards({"train": map(with_context, CONVERSATIONS)}, tokenizer, tmp_path / "shards")
    shards = TokenShards.open(folder, "train")
    assert shards.loss_mask is not None
    mask = np.array(shards.loss_mask)
    mask[np.flatnonzero(mask)[::3]] = 0
    assert chat.replace(shards=replace(shards, loss_mask=mask)).first_failure() in (
        "no-end-of-turn",
        "answer-not-counted",
    )
