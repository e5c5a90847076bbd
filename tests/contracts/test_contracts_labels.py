"""The mistakes of labels and templates, put back one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.chat.rendering import CHAT_TEMPLATE
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.tokenizer.special_tokens import SpecialTokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.contracts.training_cases import (
    CONVERSATIONS,
    TrainingCase,
    chat_shards,
    make_plan,
    shards_of,
    with_batches,
    with_ids,
    with_masks,
)

# ---- loss on the prompt, or on padding


@pytest.mark.catches("loss-on-prompt")
def test_a_loss_on_every_token_of_a_conversation(chat: TrainingCase) -> None:
    assert with_masks(chat, lambda ids, mask: [True] * len(ids)).first_failure() == "loss-on-prompt"


@pytest.mark.catches("loss-on-prompt")
def test_conversations_without_a_loss_mask(chat: TrainingCase) -> None:
    shards = shards_of(
        [compile_chat(chat.tokenizer, c).token_ids for c in CONVERSATIONS], None, chat.tokenizer
    )
    assert chat.replace(shards=shards).first_failure() == "loss-on-prompt"


@pytest.mark.catches("loss-on-prompt")
def test_a_loss_on_the_marker_that_opens_the_answer(chat: TrainingCase) -> None:
    marker = chat.tokenizer.turn_ids["assistant"]
    changed = with_masks(chat, lambda ids, mask: [m or i == marker for i, m in zip(ids, mask, strict=True)])
    assert changed.first_failure() == "loss-on-prompt"


@pytest.mark.catches("loss-on-prompt")
def test_a_loss_on_a_single_question(chat: TrainingCase) -> None:
    calls = iter(range(1000))
    changed = with_masks(chat, lambda ids, mask: [True] * len(ids) if next(calls) == 7 else mask)
    assert changed.first_failure() == "loss-on-prompt"


def test_a_loss_mask_that_is_one_token_early(chat: TrainingCase) -> None:
    changed = with_batches(chat, lambda batch: {"loss_mask": np.roll(batch.loss_mask, 1, axis=1)})
    assert changed.first_failure() in ("no-end-of-turn", "loss-on-padding", "loss-on-prompt")
    assert "loss-on-prompt" in changed.failures()


@pytest.mark.catches("loss-on-padding")
def test_a_loss_on_padding(chat: TrainingCase) -> None:
    changed = with_batches(
        chat,
        lambda batch: {
            "loss_mask": batch.loss_mask | (batch.document_ids < 0),
            "n_counted": int((batch.loss_mask | (batch.document_ids < 0)).sum()),
        },
    )
    assert changed.first_failure() == "loss-on-padding"


# ---- every label masked


@pytest.mark.catches("all-masked")
def test_every_label_masked_in_the_data(chat: TrainingCase) -> None:
    assert with_masks(chat, lambda ids, mask: [False] * len(ids)).first_failure() == "all-masked"


@pytest.mark.catches("all-masked")
@pytest.mark.parametrize("task", ["chat", "pretrain"])
def test_every_label_masked_in_the_batches(task: str, request: pytest.FixtureRequest) -> None:
    case = request.getfixturevalue(task)
    changed = with_batches(case, lambda b: {"loss_mask": np.zeros_like(b.loss_mask), "n_counted": 0})
    assert changed.first_failure() == "all-masked"


@pytest.mark.catches("answer-not-counted")
def test_an_answer_of_which_a_part_is_masked(chat: TrainingCase) -> None:
    changed = with_masks(chat, lambda ids, mask: [m and i % 7 != 0 for i, m in enumerate(mask)])
    assert changed.first_failure() in ("answer-not-counted", "no-end-of-turn")
    assert "answer-not-counted" in changed.failures()


# ---- truncation


def long_question(number: int) -> Conversation:
    return Conversation(
        (Message("user", f"Tell me about day {number}. " * 30), Message("assistant", "It rained."))
    )


@pytest.mark.catches("answers-truncated")
def test_rows_of_which_truncation_leaves_no_answer(chat: TrainingCase) -> None:
    shards = chat_shards(chat.tokenizer, [*CONVERSATIONS, *map(long_question, range(40))])
    source = BatchSource(dataclasses.replace(shards, loss_mask=None), 64, 0, "pack")  # leaves nothing out
    source.shards = shards
    assert chat.replace(shards=shards, source=source).first_failure() == "answers-truncated"


def test_conversations_of_which_truncation_leaves_no_answer_are_left_out(chat: TrainingCase) -> None:
    shards = chat_shards(chat.tokenizer, [*CONVERSATIONS, *map(long_question, range(40))])
    case = chat.replace(shards=shards)
    assert case.first_failure() == "healthy"
    assert case.source.long_rows is not None
    assert case.source.long_rows.n_lost == 40


@pytest.mark.catches("answers-truncated")
def test_truncation_that_cuts_the_end_of_every_answer(chat: TrainingCase) -> None:
    talk = Conversation((Message("user", "Go on."), Message("assistant", "It rained all day long. " * 30)))
    shards = chat_shards(chat.tokenizer, [talk] * 20)
    assert chat.replace(shards=shards).first_failure() == "answers-truncated"


def test_truncation_that_leaves_a_part_of_the_answers_is_no_fault(chat: TrainingCase) -> None:
    talk = Conversation((Message("user", "Go on."), Message("assistant", "It rained all day long. " * 30)))
    assert (
        chat.replace(shards=chat_shards(chat.tokenizer, [*CONVERSATIONS, talk])).first_failure() == "healthy"
    )


# ---- the end of a turn, of a text, never counted


@pytest.mark.catches("no-end-of-turn")
def test_an_end_of_turn_that_never_counts(chat: TrainingCase) -> None:
    end = chat.tokenizer.turn_ids["end"]
    changed = with_masks(chat, lambda ids, mask: [m and i != end for i, m in zip(ids, mask, strict=True)])
    assert changed.first_failure() == "no-end-of-turn"


@pytest.mark.catches("no-end-of-turn")
def test_an_end_of_turn_that_counts_in_the_last_turn_only(chat: TrainingCase) -> None:
    end = chat.tokenizer.turn_ids["end"]

    def change(ids: list[int], mask: list[bool]) -> list[bool]:
        return [
            m and (i != end or place == len(ids) - 1)
            for place, (i, m) in enumerate(zip(ids, mask, strict=True))
        ]

    assert with_masks(chat, change).first_failure() == "no-end-of-turn"


@pytest.mark.catches("no-end-of-turn")
def test_conversations_written_without_an_end_of_turn(chat: TrainingCase) -> None:
    end = chat.tokenizer.turn_ids["end"]
    chats = [compile_chat(chat.tokenizer, one) for one in CONVERSATIONS]
    pairs = [[(i, m) for i, m in zip(c.token_ids, c.loss_mask, strict=True) if i != end] for c in chats]
    shards = shards_of(
        [[i for i, _ in one] for one in pairs], [[m for _, m in one] for one in pairs], chat.tokenizer
    )
    assert chat.replace(shards=shards).first_failure() == "no-end-of-turn"


@pytest.mark.catches("no-end-of-text")
def test_documents_without_eos(pretrain: TrainingCase) -> None:
    assert with_ids(pretrain, lambda ids: ids[:-1]).first_failure() == "no-end-of-text"


@pytest.mark.catches("no-end-of-text")
def test_an_eos_that_does_not_count(pretrain: TrainingCase) -> None:
    eos = pretrain.tokenizer.eos_id
    changed = with_batches(pretrain, lambda batch: {"loss_mask": batch.loss_mask & (batch.target_ids != eos)})
    assert changed.first_failure() == "no-end-of-text"


# ---- PAD = EOS


@pytest.mark.catches("pad-is-eos")
@pytest.mark.parametrize("task", ["chat", "pretrain"])
def test_shards_padded_with_eos(task: str, request: pytest.FixtureRequest) -> None:
    from dataclasses import replace

    case = request.getfixturevalue(task)
    shards = replace(case.shards, pad_id=case.tokenizer.eos_id)
    assert case.replace(shards=shards).first_failure() == "pad-is-eos"


@pytest.mark.catches("pad-is-eos")
def test_shards_padded_with_the_end_of_turn(chat: TrainingCase) -> None:
    from dataclasses import replace

    shards = replace(chat.shards, pad_id=chat.tokenizer.turn_ids["end"])
    assert chat.replace(shards=shards).first_failure() == "pad-is-eos"


def test_a_tokenizer_whose_pad_is_eos_cannot_be_made(tokenizer: Tokenizer) -> None:
    forms = {**tokenizer.special.strings, "pad": tokenizer.special.strings["eos"]}
    with pytest.raises(UserError, match="PAD and EOS"):
        Tokenizer(tokenizer.json, kind=tokenizer.kind, special=SpecialTokens(forms, tokenizer.special.turns))


# ---- BOS twice, or missing


@pytest.mark.catches("double-bos")
@pytest.mark.parametrize("task", ["chat", "pretrain"])
def test_bos_twice(task: str, request: pytest.FixtureRequest) -> None:
    case = request.getfixturevalue(task)
    assert with_ids(case, lambda ids: [case.tokenizer.bos_id, *ids]).first_failure() == "double-bos"


@pytest.mark.catches("double-bos")
@pytest.mark.parametrize("task", ["chat", "pretrain"])
def test_bos_missing(task: str, request: pytest.FixtureRequest) -> None:
    assert with_ids(request.getfixturevalue(task), lambda ids: ids[1:]).first_failure() == "double-bos"


# ---- only the last turn


@pytest.mark.catches("only-last-turn")
def test_only_the_last_turn_counts(chat: TrainingCase) -> None:
    def change(ids: list[int], mask: list[bool]) -> list[bool]:
        last = max(i for i in range(len(mask)) if not mask[i] and mask[min(i + 1, len(mask) - 1)])
        return [m and i > last for i, m in enumerate(mask)]

    assert with_masks(chat, change).first_failure() == "only-last-turn"


# ---- a template whose parts of the assistant are absent or misplaced

END = "{{- '<|end|>' -}}"
CONTENT = "{{- ' ' + message['content'] -}}"
BROKEN_TEMPLATES = {
    "no end": (CHAT_TEMPLATE.replace(END, ""), "1 of 2 answers end without"),
    "an end before the content": (
        CHAT_TEMPLATE.replace(CONTENT + END, END + CONTENT),
        "1 of 2 answers end without",
    ),
    "no end after the last turn": (
        CHAT_TEMPLATE.replace(END, "{%- if not loop.last -%}" + END + "{%- endif -%}"),
        "1 of 2 answers end without",
    ),
    "no text": (
        CHAT_TEMPLATE.replace(CONTENT, "{{- message['content'] if message['role'] != 'assistant' -}}"),
        "leaves out the text of every answer",
    ),
    "only parts": (
        CHAT_TEMPLATE.replace(CONTENT, "{%- for p in message['content'] -%}{{- p.text -}}{%- endfor -%}"),
        "leaves out the text of every answer",
    ),
    "text of the last turn": (
        CHAT_TEMPLATE.replace(CONTENT, "{{- message['content'] if loop.last or loop.first -}}"),
        "leaves out the text of one of two answers",
    ),
}


@pytest.mark.parametrize("name", BROKEN_TEMPLATES)
def test_a_template_whose_part_of_the_assistant_is_absent_or_misplaced(name: str, chat: TrainingCase) -> None:
    template, reason = BROKEN_TEMPLATES[name]
    assert template != CHAT_TEMPLATE
    case = with_template(chat, template)
    case = case.replace(shards=chat_shards(case.tokenizer))
    found = {result.name: result.detail for result in case.results() if not result.passed}
    assert reason in found.get("template-loses-answer", found.get("all-masked", ""))


@pytest.mark.catches("template-loses-answer")
def test_a_template_that_was_changed_after_encoding(chat: TrainingCase) -> None:
    template, _ = BROKEN_TEMPLATES["no text"]
    assert "template-loses-answer" in with_template(chat, template).failures()


@pytest.mark.parametrize("role", ["assistant", "user", "nobody"])
def test_marks_of_generation_change_nothing(role: str, chat: TrainingCase) -> None:
    """Roles decide what counts, so a template that marks the wrong part, or none, is as good as another."""
    marked = "{% generation %}" + CONTENT + "{% endgeneration %}"
    choice = (
        "{%- if message['role'] == '" + role + "' -%}" + marked + "{%- else -%}" + CONTENT + "{%- endif -%}"
    )
    case = with_template(chat, CHAT_TEMPLATE.replace(CONTENT, choice))
    assert compile_chat(case.tokenizer, CONVERSATIONS[0]) == compile_chat(chat.tokenizer, CONVERSATIONS[0])
    assert case.first_failure() == "healthy"


# ---- training and serving differ


def with_template(case: TrainingCase, template: str) -> TrainingCase:
    old = case.tokenizer
    return case.replace(
        tokenizer=Tokenizer(old.json, kind=old.kind, special=old.special, chat_template=template)
    )


@pytest.mark.catches("template-differs")
def test_a_generation_prompt_that_training_never_saw(chat: TrainingCase) -> None:
    other = CHAT_TEMPLATE.replace(
        "add_generation_prompt -%}{{- '<|assistant|>'", "add_generation_prompt -%}{{- '<|tool|>'"
    )
    assert other != CHAT_TEMPLATE
    assert with_template(chat, other).first_failure() == "template-differs"


@pytest.mark.catches("template-differs")
def test_a_template_that_writes_turns_otherwise_than_the_shards(chat: TrainingCase) -> None:
    other = CHAT_TEMPLATE.replace("' ' + message['content']", "message['content']")
    assert other != CHAT_TEMPLATE
    assert with_template(chat, other).first_failure() == "template-differs"


@pytest.mark.catches("template-differs")
def test_a_template_without_bos(chat: TrainingCase) -> None:
    failures = with_template(chat, CHAT_TEMPLATE.replace("{{- bos_token -}}", "")).failures()
    assert {"double-bos", "template-differs"} <= set(failures)


@pytest.mark.catches("tokenizer-differs")
def test_shards_of_another_tokenizer(pretrain: TrainingCase) -> None:
    from dataclasses import replace

    shards = replace(pretrain.shards, tokenizer_digest="0" * 64)
    assert pretrain.replace(shards=shards).first_failure() == "tokenizer-differs"


# ---- control tokens that text can spell


class TrustingTokenizer(Tokenizer):
    """Encodes as many tokenizers do by default: special tokens in text become control tokens."""

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids


@pytest.mark.catches("forged-control-token")
@pytest.mark.parametrize("task", ["chat", "pretrain"])
def test_text_that_becomes_a_control_token(task: str, request: pytest.FixtureRequest) -> None:
    case = request.getfixturevalue(task)
    old = case.tokenizer
    trusting = TrustingTokenizer(
        old.json, kind=old.kind, special=old.special, chat_template=old.chat_template
    )
    assert case.replace(tokenizer=trusting).first_failure() == "forged-control-token"


@pytest.mark.catches("control-token-in-text")
def test_documents_with_control_tokens_inside(pretrain: TrainingCase) -> None:
    end = pretrain.tokenizer.turn_ids["end"]
    assert (
        with_ids(pretrain, lambda ids: [*ids[:5], end, *ids[5:]]).first_failure() == "control-token-in-text"
    )


# ---- ids without an embedding


@pytest.mark.catches("ids-outside-vocabulary")
def test_a_model_with_a_smaller_vocabulary_than_the_tokenizer(
    healthy_case: object, pretrain: TrainingCase
) -> None:
    from tests.contracts.training_cases import make_model

    assert (
        pretrain.replace(model=make_model(pretrain.tokenizer.vocab_size - 60)).first_failure()
        == "ids-outside-vocabulary"
    )


def test_every_failure_has_a_detail_and_a_remedy(chat: TrainingCase) -> None:
    from parakit.training.doctor import DoctorError, raise_first_failure

    broken: Sequence[TrainingCase] = [
        with_masks(chat, lambda ids, mask: [True] * len(ids)),
        chat.replace(
            source=BatchSource(chat.shards, 96, 0, "pack"),
            plan=make_plan(chat.shards),
            frozen=lambda name: True,
        ),
    ]
    for case in broken:
        with pytest.raises(DoctorError) as caught:
            raise_first_failure(case.results())
        assert caught.value.name in str(caught.value)
        assert caught.value.hint
        assert len(caught.value.message) > len("doctor: ") + len(caught.value.name) + 20
