"""Pitfalls 1 to 9, put back one by one: labels and templates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.chat.template import CHAT_TEMPLATE, compile_chat
from parakit.tokens.tokenizer.special_tokens import SpecialTokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.contracts.patients import (
    CONVERSATIONS,
    Patient,
    chat_shards,
    make_plan,
    shards_of,
    with_batches,
    with_ids,
    with_masks,
)

# ---- 1: loss on the prompt, or on padding


def test_1_a_loss_on_every_token_of_a_conversation(chat: Patient) -> None:
    assert with_masks(chat, lambda ids, mask: [True] * len(ids)).verdict() == "loss-on-prompt"


def test_1_conversations_without_a_loss_mask(chat: Patient) -> None:
    shards = shards_of(
        [compile_chat(chat.tokenizer, c).token_ids for c in CONVERSATIONS], None, chat.tokenizer
    )
    assert chat.but(shards=shards).verdict() == "loss-on-prompt"


def test_1_a_loss_on_the_marker_that_opens_the_answer(chat: Patient) -> None:
    marker = chat.tokenizer.turn_ids["assistant"]
    changed = with_masks(chat, lambda ids, mask: [m or i == marker for i, m in zip(ids, mask, strict=True)])
    assert changed.verdict() == "loss-on-prompt"


def test_1_a_loss_on_a_single_question(chat: Patient) -> None:
    calls = iter(range(1000))
    changed = with_masks(chat, lambda ids, mask: [True] * len(ids) if next(calls) == 7 else mask)
    assert changed.verdict() == "loss-on-prompt"


def test_1_a_batch_whose_mask_lies_one_token_early(chat: Patient) -> None:
    changed = with_batches(chat, lambda batch: {"loss_mask": np.roll(batch.loss_mask, 1, axis=1)})
    assert changed.verdict() in ("no-end-of-turn", "loss-on-padding", "loss-on-prompt")
    assert "loss-on-prompt" in changed.faults()


def test_1_a_loss_on_padding(chat: Patient) -> None:
    changed = with_batches(
        chat,
        lambda batch: {
            "loss_mask": batch.loss_mask | (batch.document_ids < 0),
            "n_counted": int((batch.loss_mask | (batch.document_ids < 0)).sum()),
        },
    )
    assert changed.verdict() == "loss-on-padding"


# ---- 2: every label masked


def test_2_every_label_masked_in_the_data(chat: Patient) -> None:
    assert with_masks(chat, lambda ids, mask: [False] * len(ids)).verdict() == "all-masked"


@pytest.mark.parametrize("kind", ["chat", "pretrain"])
def test_2_every_label_masked_in_the_batches(kind: str, request: pytest.FixtureRequest) -> None:
    patient = request.getfixturevalue(kind)
    changed = with_batches(patient, lambda b: {"loss_mask": np.zeros_like(b.loss_mask), "n_counted": 0})
    assert changed.verdict() == "all-masked"


def test_2_an_answer_of_which_a_part_is_masked(chat: Patient) -> None:
    changed = with_masks(chat, lambda ids, mask: [m and i % 7 != 0 for i, m in enumerate(mask)])
    assert changed.verdict() in ("answer-not-counted", "no-end-of-turn")
    assert "answer-not-counted" in changed.faults()


# ---- 3: truncation


def long_question(number: int) -> Conversation:
    return Conversation(
        (Message("user", f"Tell me about day {number}. " * 30), Message("assistant", "It rained."))
    )


def test_3_truncation_that_cuts_all_answers_away_in_some_conversations(chat: Patient) -> None:
    shards = chat_shards(chat.tokenizer, [*CONVERSATIONS, *map(long_question, range(6))])
    assert chat.but(shards=shards).verdict() == "answers-truncated"


def test_3_truncation_that_leaves_a_part_of_the_answers_is_no_fault(chat: Patient) -> None:
    talk = Conversation((Message("user", "Go on."), Message("assistant", "It rained all day long. " * 30)))
    assert chat.but(shards=chat_shards(chat.tokenizer, [*CONVERSATIONS, talk])).verdict() == "healthy"


# ---- 4: the end of a turn, of a text, never counted


def test_4_an_end_of_turn_that_never_counts(chat: Patient) -> None:
    end = chat.tokenizer.turn_ids["end"]
    changed = with_masks(chat, lambda ids, mask: [m and i != end for i, m in zip(ids, mask, strict=True)])
    assert changed.verdict() == "no-end-of-turn"


def test_4_an_end_of_turn_that_counts_in_the_last_turn_only(chat: Patient) -> None:
    end = chat.tokenizer.turn_ids["end"]

    def change(ids: list[int], mask: list[bool]) -> list[bool]:
        return [
            m and (i != end or place == len(ids) - 1)
            for place, (i, m) in enumerate(zip(ids, mask, strict=True))
        ]

    assert with_masks(chat, change).verdict() == "no-end-of-turn"


def test_4_conversations_written_without_an_end_of_turn(chat: Patient) -> None:
    end = chat.tokenizer.turn_ids["end"]
    chats = [compile_chat(chat.tokenizer, one) for one in CONVERSATIONS]
    kept = [[(i, m) for i, m in zip(c.token_ids, c.loss_mask, strict=True) if i != end] for c in chats]
    shards = shards_of([[i for i, _ in k] for k in kept], [[m for _, m in k] for k in kept], chat.tokenizer)
    assert chat.but(shards=shards).verdict() == "no-end-of-turn"


def test_4_documents_without_eos(pretrain: Patient) -> None:
    assert with_ids(pretrain, lambda ids: ids[:-1]).verdict() == "no-end-of-text"


def test_4_an_eos_that_does_not_count(pretrain: Patient) -> None:
    eos = pretrain.tokenizer.eos_id
    changed = with_batches(pretrain, lambda batch: {"loss_mask": batch.loss_mask & (batch.target_ids != eos)})
    assert changed.verdict() == "no-end-of-text"


# ---- 5: PAD = EOS


@pytest.mark.parametrize("kind", ["chat", "pretrain"])
def test_5_shards_padded_with_eos(kind: str, request: pytest.FixtureRequest) -> None:
    from dataclasses import replace

    patient = request.getfixturevalue(kind)
    shards = replace(patient.shards, pad_id=patient.tokenizer.eos_id)
    assert patient.but(shards=shards).verdict() == "pad-is-eos"


def test_5_shards_padded_with_the_end_of_turn(chat: Patient) -> None:
    from dataclasses import replace

    shards = replace(chat.shards, pad_id=chat.tokenizer.turn_ids["end"])
    assert chat.but(shards=shards).verdict() == "pad-is-eos"


def test_5_a_tokenizer_whose_pad_is_eos_cannot_be_made(tokenizer: Tokenizer) -> None:
    forms = {**tokenizer.special.strings, "pad": tokenizer.special.strings["eos"]}
    with pytest.raises(UserError, match="PAD and EOS"):
        Tokenizer(tokenizer.json, kind=tokenizer.kind, special=SpecialTokens(forms, tokenizer.special.turns))


# ---- 6: BOS twice, or missing


@pytest.mark.parametrize("kind", ["chat", "pretrain"])
def test_6_bos_twice(kind: str, request: pytest.FixtureRequest) -> None:
    patient = request.getfixturevalue(kind)
    assert with_ids(patient, lambda ids: [patient.tokenizer.bos_id, *ids]).verdict() == "double-bos"


@pytest.mark.parametrize("kind", ["chat", "pretrain"])
def test_6_bos_missing(kind: str, request: pytest.FixtureRequest) -> None:
    assert with_ids(request.getfixturevalue(kind), lambda ids: ids[1:]).verdict() == "double-bos"


# ---- 7: only the last turn


def test_7_only_the_last_turn_counts(chat: Patient) -> None:
    def change(ids: list[int], mask: list[bool]) -> list[bool]:
        last = max(i for i in range(len(mask)) if not mask[i] and mask[min(i + 1, len(mask) - 1)])
        return [m and i > last for i, m in enumerate(mask)]

    assert with_masks(chat, change).verdict() == "only-last-turn"


# ---- 8: training and serving differ


def with_template(patient: Patient, template: str) -> Patient:
    old = patient.tokenizer
    return patient.but(
        tokenizer=Tokenizer(old.json, kind=old.kind, special=old.special, chat_template=template)
    )


def test_8_a_generation_prompt_that_training_never_saw(chat: Patient) -> None:
    other = CHAT_TEMPLATE.replace(
        "add_generation_prompt -%}{{- '<|assistant|>'", "add_generation_prompt -%}{{- '<|tool|>'"
    )
    assert other != CHAT_TEMPLATE
    assert with_template(chat, other).verdict() == "template-differs"


def test_8_a_template_that_writes_turns_otherwise_than_the_shards(chat: Patient) -> None:
    other = CHAT_TEMPLATE.replace("' ' + message['content']", "message['content']")
    assert other != CHAT_TEMPLATE
    assert with_template(chat, other).verdict() == "template-differs"


def test_8_a_template_without_bos(chat: Patient) -> None:
    assert with_template(chat, CHAT_TEMPLATE.replace("{{- bos_token -}}", "")).verdict() == "template-differs"


def test_8_shards_of_another_tokenizer(pretrain: Patient) -> None:
    from dataclasses import replace

    shards = replace(pretrain.shards, tokenizer_digest="0" * 64)
    assert pretrain.but(shards=shards).verdict() == "tokenizer-differs"


# ---- 9: control tokens that text can spell


class TrustingTokenizer(Tokenizer):
    """Encodes as many tokenizers do by default: special tokens in text are recognised."""

    def encode(self, text: str) -> list[int]:
        return self._whole.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", ["chat", "pretrain"])
def test_9_text_that_becomes_a_control_token(kind: str, request: pytest.FixtureRequest) -> None:
    patient = request.getfixturevalue(kind)
    old = patient.tokenizer
    trusting = TrustingTokenizer(
        old.json, kind=old.kind, special=old.special, chat_template=old.chat_template
    )
    assert patient.but(tokenizer=trusting).verdict() == "forged-control-token"


def test_9_documents_with_control_tokens_inside(pretrain: Patient) -> None:
    end = pretrain.tokenizer.turn_ids["end"]
    assert with_ids(pretrain, lambda ids: [*ids[:5], end, *ids[5:]]).verdict() == "control-token-in-text"


# ---- 10: ids without an embedding


def test_10_a_model_with_a_smaller_vocabulary_than_the_tokenizer(
    healthy_patient: object, pretrain: Patient
) -> None:
    from tests.contracts.patients import make_model

    assert (
        pretrain.but(model=make_model(pretrain.tokenizer.vocab_size - 60)).verdict()
        == "ids-outside-vocabulary"
    )


def test_every_error_says_what_is_wrong_and_the_way_out(chat: Patient) -> None:
    from parakit.training.doctor import DoctorError, require_healthy

    ill: Sequence[Patient] = [
        with_masks(chat, lambda ids, mask: [True] * len(ids)),
        chat.but(
            source=BatchSource(chat.shards, 96, 0, "pack"),
            plan=make_plan(chat.shards),
            frozen=lambda name: True,
        ),
    ]
    for patient in ill:
        with pytest.raises(DoctorError) as caught:
            require_healthy(patient.findings())
        assert caught.value.name in str(caught.value)
        assert caught.value.hint
        assert len(caught.value.message) > len("doctor: ") + len(caught.value.name) + 20
