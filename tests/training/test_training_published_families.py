"""Published models, whose BOS, EOS, PAD and turn markers coincide in many ways: no false alarm, and faults are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from parakit.data.conversations.conversation import Conversation
from parakit.tokens import Tokenizer
from tests.contracts.training_cases import (
    CONVERSATIONS,
    TrainingCase,
    make_case,
    with_batches,
    with_ids,
)
from tests.published_families import FAMILIES, write_tokenizer

pytest.importorskip("transformers")
QUICK = ("gpt2", "qwen2", "smollm2", "llama3")
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in FAMILIES]
TALKING = [one for one in ALL if FAMILIES[one.values[0]].template is not None]
LONG = {"max_seq_len": 192}  # templates of published models are longer than Parakit's


@pytest.fixture(scope="module")
def tokenizer_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tokenizer]:
    folder, loaded = tmp_path_factory.mktemp("families"), {}

    def load(name: str) -> Tokenizer:
        if name not in loaded:
            loaded[name] = Tokenizer.load(write_tokenizer(name, folder / name))
        return loaded[name]

    return load


def conversations(name: str) -> list[Conversation]:
    """Without a system prompt where the family's template refuses one."""
    if name not in ("llama2", "gemma"):
        return CONVERSATIONS
    return [replace(c, messages=tuple(m for m in c.messages if m.role != "system")) for c in CONVERSATIONS]


def talking_case(name: str, tokenizer: Tokenizer) -> TrainingCase:
    return make_case(tokenizer, "chat", None, 192, conversations(name), **LONG)


@pytest.mark.parametrize("packing", ["concat", pytest.param("pack", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ALL)
def test_further_pretraining_is_healthy(
    name: str, packing: str, tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    case = make_case(tokenizer_of(name), "next_token", packing)
    assert not case.source.rows(0, 8).single_document
    assert case.failures() == []


@pytest.mark.parametrize("name", TALKING)
def test_tuning_on_conversations_is_healthy(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    case = talking_case(name, tokenizer_of(name))
    assert not case.source.rows(0, 8).single_document
    assert case.failures() == []


@pytest.mark.parametrize("name", ALL)
def test_bos_twice_in_a_text_is_caught(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    if tokenizer.bos_id is None:
        pytest.skip("the family has no BOS")
    doubled = with_ids(make_case(tokenizer, "next_token"), lambda ids: [tokenizer.bos_id, *ids])
    assert doubled.first_failure() == "double-bos"


@pytest.mark.parametrize("name", TALKING)
def test_bos_twice_in_a_conversation_is_caught(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(name)
    if tokenizer.bos_id is None:
        pytest.skip("the family has no BOS")
    doubled = with_ids(talking_case(name, tokenizer), lambda ids: [tokenizer.bos_id, *ids])
    assert doubled.first_failure() == "double-bos"


@pytest.mark.parametrize("name", ALL)
def test_documents_that_share_a_document_id_are_caught(
    name: str, tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    case = make_case(tokenizer_of(name), "next_token")
    joined = with_batches(
        case, lambda batch: {"document_ids": np.where(batch.document_ids < 0, -1, 0).astype(np.int32)}
    )
    assert joined.first_failure() == "documents-not-separated"


@pytest.mark.parametrize("name", TALKING)
def test_conversations_that_share_a_document_id_are_caught(
    name: str, tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    joined = with_batches(
        talking_case(name, tokenizer_of(name)),
        lambda batch: {"document_ids": np.where(batch.document_ids < 0, -1, 0).astype(np.int32)},
    )
    assert joined.first_failure() == "documents-not-separated"


@pytest.mark.parametrize("name", TALKING)
def test_a_loss_on_padding_is_caught(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    everything = with_batches(
        talking_case(name, tokenizer_of(name)),
        lambda batch: {
            "loss_mask": batch.loss_mask | (batch.document_ids < 0),
            "n_counted": int((batch.loss_mask | (batch.document_ids < 0)).sum()),
        },
    )
    assert everything.first_failure() == "loss-on-padding"


@pytest.mark.parametrize("name", TALKING)
def test_an_end_of_turn_that_never_counts_is_caught(
    name: str, tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    tokenizer = tokenizer_of(name)
    case = talking_case(name, tokenizer)
    controls = np.isin(case.shards.token_ids, sorted(tokenizer.control_ids))
    masked = replace(case.shards, loss_mask=np.where(controls, 0, case.shards.loss_mask).astype(np.uint8))
    assert case.replace(shards=masked).first_failure() == "no-end-of-turn"
