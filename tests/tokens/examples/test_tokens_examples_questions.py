"""Questions with contexts as rows: the answer's tokens are where they are, also in a window of a long context."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.data.examples import prepare_examples
from parakit.tokens import TokenizerConfig, train_tokenizer
from parakit.tokens.examples.encoding import encode_examples
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.examples.sources import QuestionSource, answer_window
from parakit.tokens.tokenizer.tokenizer import Tokenizer

WORDS = ["the", "small", "bird", "sees", "a", "red", "tree", "and", "sings", "near", "an", "old", "house"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter([" ".join(WORDS) * 9]), TokenizerConfig(vocab_size=300))


@pytest.fixture(scope="module")
def made(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], ExampleShards]:
    folder: Path = tmp_path_factory.mktemp("questions")
    rows = []
    for i in range(40):
        context = " ".join(np.random.default_rng(i).permutation(WORDS * (1 + i % 4)))
        begin = context.index(" ", 3 * i % 50) + 1
        answer = context[begin : (context + " " * 12).find(" ", begin + 9)]
        answers = {"answers": [answer], "answer_start": begin} if i % 5 else {"answers": []}
        rows.append({"question": f"{WORDS[i % 13]} {i}?", "context": context, **answers})
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare_examples([str(folder / "a.jsonl")], "answer", folder / "set", validation_fraction=0)
    encode_examples(folder / "set", tokenizer, folder / "shards", family="encoder")
    return rows, ExampleShards.open(folder / "shards", "train")


@pytest.mark.parametrize("max_seq_len", [256, 40])
def test_the_labels_are_the_first_and_the_last_token_of_the_answer(made, tokenizer, max_seq_len) -> None:
    rows, shards = made
    source = QuestionSource(shards, max_seq_len, 0)
    assert (source.long_rows.n_long > 0) == (max_seq_len == 40)
    batch = source.batch_of(range(40))
    assert batch.input_ids.shape[1] <= max_seq_len
    for number, (row, (first, last)) in enumerate(zip(rows, batch.labels.tolist(), strict=True)):
        ids, real = batch.input_ids[number].tolist(), int(batch.attention_mask[number].sum())
        separators = [i for i, token_id in enumerate(ids[:real]) if token_id == tokenizer.sep_id]
        assert ids[0] == tokenizer.cls_id
        assert separators[-1] == real - 1
        assert tokenizer.decode(ids[1 : separators[0]]) == row["question"]
        assert tokenizer.decode(ids[separators[0] + 1 : real - 1]) in row["context"]
        if row["answers"]:
            assert tokenizer.decode(ids[first : last + 1]).strip() == row["answers"][0]
        else:
            assert (first, last) == (0, 0)
        assert batch.token_type_ids[number, :real].tolist() == [int(i > separators[0]) for i in range(real)]


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=20),
    limit=st.integers(1, 30),
    data=st.data(),
)
def test_a_window_holds_every_answer_that_fits(lengths, limit, data) -> None:
    spans = []
    for length in lengths:
        first = data.draw(st.integers(-1, max(-1, length - 1)))
        spans.append((first, -1 if first < 0 else data.draw(st.integers(first, length - 1))))
    begins = answer_window(np.array(spans), np.array(lengths), np.full(len(lengths), limit))
    for (first, last), begin, length in zip(spans, begins.tolist(), lengths, strict=True):
        assert 0 <= begin <= max(0, length - limit)
        if first >= 0 and last - first < max(1, limit - max(1, limit // 2)):
            assert begin <= first
            assert last < begin + limit


def test_a_question_whose_answer_is_longer_than_a_window_is_left_out(made) -> None:
    """It would be learned as one without an answer."""
    _, shards = made
    spans = np.array(shards.targets)
    spans[1] = (0, int(shards.texts["context"].lengths[1]) - 1)
    long = dataclasses.replace(shards, targets=spans)
    source = QuestionSource(long, 20, 0)
    rows = source.long_rows
    assert (rows.n_rows, rows.n_lost) == (40, 1)
    assert "1 left out, whose answer is longer than a window" in rows.lines()[0]
    numbers = np.concatenate([numbers for numbers, _ in source.one_pass(8)])
    assert sorted(numbers.tolist()) == [i for i in range(40) if i != 1]
