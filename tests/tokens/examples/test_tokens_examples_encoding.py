"""Examples as token ids: templates and tags as transformers has them, files that notice damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from parakit.common.errors import CorruptArtifact, UserError
from parakit.data import iter_examples, prepare_examples
from parakit.tokens import Tokenizer
from parakit.tokens.examples.encoding import encode_examples, word_numbers
from parakit.tokens.examples.shards import ExampleShards, read_index
from parakit.tokens.examples.sources import LabelledSource
from parakit.tokens.examples.text_pairs import TextPairSource
from parakit.tokens.tokenizer.special_tokens_template import (
    SpecialTokensTemplate,
    special_tokens_template,
    truncate_pair,
    with_special_tokens_template,
)

KINDS = ["byte_bpe", "wordpiece", "unigram", "word", "char"]
WORDS = ["the", "cat", "sat", "seven", "small", "dogs", "weren't", "été", "你好", "mat", "1937"]


def examples_of(folder: Path, task: str, rows: list[dict], **options: object) -> Path:
    """An examples folder with these rows, in order, as its train split."""
    file = folder / f"{task}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return prepare_examples([str(file)], task, folder / task, validation_fraction=0, **options)  # type: ignore[arg-type]


def texts_of(n: int) -> list[str]:
    """Different texts of one to twelve words."""
    return [
        " ".join(WORDS[(i * 7 + j * (1 + i % 3)) % len(WORDS)] for j in range(1 + i % 12)) for i in range(n)
    ]


def third_party(tokenizer: Tokenizer, folder: Path) -> PreTrainedTokenizerFast:
    with_special_tokens_template(tokenizer, "encoder").save(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
@pytest.mark.parametrize("max_seq_len", [64, 13, 8])
def test_texts_and_pairs_are_framed_and_cut_as_transformers_does(
    tokenizers: dict[str, Tokenizer], tmp_path: Path, kind: str, max_seq_len: int
) -> None:
    tokenizer, texts = tokenizers[kind], texts_of(30)
    pairs = [None if i % 4 == 0 else texts[(i * 11 + 3) % 30] for i in range(30)]
    rows = [
        {"text": f"{text} {i}"} | ({} if pair is None else {"text_pair": pair}) | {"label": "ab"[i % 2]}
        for i, (text, pair) in enumerate(zip(texts, pairs, strict=True))
    ]
    folder = encode_examples(
        examples_of(tmp_path, "classify", rows), tokenizer, tmp_path / "shards", family="encoder"
    )
    shards = ExampleShards.open(folder, "train")
    source = LabelledSource(shards, max_seq_len, seed=0)
    reference = third_party(tokenizer, tmp_path / "tokenizer")
    n_long = 0
    for i, row in enumerate(rows):
        batch = source.batch_of([i])
        wanted = reference(
            row["text"],
            row.get("text_pair"),
            truncation="longest_first",
            max_length=max_seq_len,
            return_token_type_ids=True,
        )
        assert batch.input_ids[0].tolist() == wanted["input_ids"]
        assert batch.token_type_ids is not None
        assert batch.token_type_ids[0].tolist() == wanted["token_type_ids"]
        assert batch.attention_mask.all()
        assert shards.labels[batch.labels[0]] == row["label"]
        n_long += len(reference(row["text"], row.get("text_pair"))["input_ids"]) > max_seq_len
    assert source.long_rows.n_long == n_long
    batch = source.batch_of(range(30))
    padded = reference.pad({"input_ids": [source.batch_of([i]).input_ids[0].tolist() for i in range(30)]})
    assert batch.input_ids.tolist() == padded["input_ids"]
    assert batch.attention_mask.astype(int).tolist() == padded["attention_mask"]


@given(
    words=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1), min_size=1
    ),
    kind=st.sampled_from(KINDS),
)
def test_every_word_has_its_first_token_marked(
    tokenizers: dict[str, Tokenizer], words: list[str], kind: str
) -> None:
    tokenizer, text = tokenizers[kind], " ".join(words)
    token_ids, numbers = word_numbers(tokenizer, words)
    assert token_ids == tokenizer.encode(text)
    marked = numbers[numbers >= 0]
    assert len(marked) == len(set(marked.tolist()))
    assert (np.diff(marked) > 0).all()
    if kind in ("byte_bpe", "char"):  # these lose nothing
        assert len(marked) == len(words)
    for token_id, number in zip(token_ids, numbers.tolist(), strict=True):
        if number >= 0 and kind == "char" and token_id != tokenizer.unk_id:
            assert tokenizer.token(token_id) == words[number][0]


def test_tags_stand_at_the_tokens_that_transformers_gives_to_each_word_first(
    tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    tokenizer = tokenizers["wordpiece"]
    rows = [{"words": (words := text.split()), "tags": [word[:1] for word in words]} for text in texts_of(24)]
    folder = encode_examples(
        examples_of(tmp_path, "tag", rows), tokenizer, tmp_path / "shards", family="encoder"
    )
    shards, reference = ExampleShards.open(folder, "train"), third_party(tokenizer, tmp_path / "tokenizer")
    assert read_index(folder)["splits"]["train"]["untagged_words"] == 0
    for max_seq_len in (100, 7):
        source = LabelledSource(shards, max_seq_len, seed=0)
        for i, row in enumerate(iter_examples(tmp_path / "tag", "train")):
            wanted = reference(
                row["words"], is_split_into_words=True, truncation=True, max_length=max_seq_len
            )
            batch = source.batch_of([i])
            assert batch.input_ids[0].tolist() == wanted["input_ids"]
            word_ids = wanted.word_ids()
            first = [w is not None and w not in word_ids[:t] for t, w in enumerate(word_ids)]
            assert batch.loss_mask is not None
            assert batch.loss_mask[0].tolist() == first
            assert batch.n_counted == sum(first)
            tags = [shards.labels[label] for label in batch.labels[0][batch.loss_mask[0]]]
            assert tags == row["tags"][: len(tags)]


@given(first=st.integers(0, 30), second=st.integers(0, 30), limit=st.integers(1, 30))
def test_the_longer_text_is_cut_first(first: int, second: int, limit: int) -> None:
    kept = truncate_pair([first, second], limit)
    expected = [first, second]
    while sum(expected) > limit:  # a token at a time from the longer, the first of equals
        expected[expected[0] < expected[1]] -= 1
    if min(first, second) > limit // 2 and limit % 2:  # where both are cut, the longer keeps the odd one
        expected = [limit - limit // 2, limit // 2] if first > second else [limit // 2, limit - limit // 2]
    assert kept == expected


@pytest.mark.parametrize("kind", KINDS)
def test_stored_ids_are_those_of_the_texts(
    tokenizers: dict[str, Tokenizer], tmp_path: Path, kind: str
) -> None:
    tokenizer, texts = tokenizers[kind], texts_of(25)
    rows = [{"source": f"{text} <|eos|> {i}", "target": texts[-i]} for i, text in enumerate(texts)]
    folder = encode_examples(
        examples_of(tmp_path, "translate", rows), tokenizer, tmp_path / "shards", family="encoder-decoder"
    )
    shards = ExampleShards.open(folder, "train")
    assert shards.n_examples == 25
    for i, row in enumerate(rows):
        for key, text in row.items():
            assert shards.texts[key][i].tolist() == tokenizer.encode(text)
            assert not tokenizer.control_ids & set(shards.texts[key][i].tolist())
    with pytest.raises(UserError, match="has no split 'test'"):
        ExampleShards.open(folder, "test")


def test_frames_survive_the_index_and_know_their_size(byte_bpe: Tokenizer) -> None:
    pair = special_tokens_template(byte_bpe, "encoder", 2)
    assert pair == SpecialTokensTemplate.from_dict(json.loads(json.dumps(pair.to_dict())))
    assert pair.parts == ((byte_bpe.cls_id,), (byte_bpe.sep_id,), (byte_bpe.sep_id,))
    assert (pair.part_types, pair.text_types) == (((0,), (0,), (1,)), (0, 1))
    assert pair.n_tokens == 3
    assert pair.has_types
    single = special_tokens_template(byte_bpe, "encoder-decoder", 1)
    assert single.parts == ((), (byte_bpe.eos_id,))
    assert not single.has_types


def test_examples_that_come_late_with_a_second_text_keep_their_places(
    byte_bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parakit.tokens.examples.encoding._ROWS_PER_CHUNK", 3)
    rows: list[dict] = [{"text": f"t {i}", "score": float(i)} for i in range(5)]
    rows += [{"text": f"t {i}", "text_pair": f"p {i}", "score": float(i)} for i in range(5, 8)]
    rows += [{"text": f"t {i}", "score": float(i)} for i in range(8, 12)]
    folder = encode_examples(
        examples_of(tmp_path, "regress", rows), byte_bpe, tmp_path / "shards", family="encoder"
    )
    source = LabelledSource(ExampleShards.open(folder, "train"), 32, seed=0)
    batch = source.batch_of(range(12))
    assert batch.labels.dtype == np.float32
    assert batch.labels.tolist() == list(range(12))
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.any(1).tolist() == ["text_pair" in row for row in rows]
    told = [
        byte_bpe.decode(ids[real].tolist())
        for ids, real in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    assert told == [row["text"] + row.get("text_pair", "") for row in rows]


def test_negatives_come_with_their_pairs(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    rows = [
        {"text": text, "positive": f"{text}!"}
        | ({"negatives": [f"{text}{k}" for k in range(i % 3)]} if i % 3 else {})
        for i, text in enumerate(texts_of(30))
    ]
    folder = encode_examples(
        examples_of(tmp_path, "embed", rows), byte_bpe, tmp_path / "shards", family="encoder"
    )
    source = TextPairSource(ExampleShards.open(folder, "train"), 64, 0)
    known, n_read = {row["text"]: row for row in rows}, 0

    def texts(ids: np.ndarray, real: np.ndarray) -> list[str]:
        return [
            byte_bpe.decode(one[mask].tolist()) for one, mask in zip(ids, real, strict=True) if mask.any()
        ]

    for _, batch in source.one_pass(4):
        assert batch.negative_ids is not None
        assert batch.negative_mask is not None
        for i, text in enumerate(texts(batch.first_ids, batch.first_mask)):
            found = texts(batch.negative_ids[i], batch.negative_mask[i])
            assert found == known[text].get("negatives", [])
        n_read += sum(int(m.sum()) for m in (batch.first_mask, batch.second_mask, batch.negative_mask))
    assert source.tokens_per_row == pytest.approx(n_read / 30)
    whole, part = source.rows(0, 9), source.rows(4, 2)
    for i in range(2):
        one, other = (b.negative_ids[k][b.negative_mask[k]] for b, k in ((whole, 4 + i), (part, i)))
        assert one.tolist() == other.tolist()


def test_damage_and_wrong_folders_are_named(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    rows = [{"text": text, "positive": f"{text}!"} for text in texts_of(9)]
    examples = examples_of(tmp_path, "embed", rows)
    folder = encode_examples(examples, byte_bpe, tmp_path / "shards", family="encoder")
    shards = ExampleShards.open(folder, "train")
    with pytest.raises(
        UserError, match="examples of embed, not of classify or multi_label or tag or regress"
    ):
        LabelledSource(shards, 16, 0)
    with pytest.raises(UserError, match="holds a examples"):
        ExampleShards.open(examples, "train")
    file = folder / "train.text.bin"
    data = file.read_bytes()
    file.write_bytes(data[:-2])
    for verify in (True, False):
        with pytest.raises(CorruptArtifact, match=r"train\.text\.bin"):
            ExampleShards.open(folder, "train", verify=verify)
    file.write_bytes(data)
    np.save(folder / "train.positive.offsets.npy", np.zeros(3, np.int64))
    with pytest.raises(CorruptArtifact, match=r"train\.positive\.offsets\.npy"):
        ExampleShards.open(folder, "train", verify=False)
