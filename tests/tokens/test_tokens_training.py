"""Training: the published reference, the same bytes whatever the threads, and clear errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.tokens import TokenizerConfig, train_tokenizer
from parakit.tokens.tokenizer import training
from parakit.tokens.tokenizer.comparison import unknown_share
from parakit.tokens.tokenizer.exact_training import MAX_WORD, choose_alphabet, count_words, learn_merges
from parakit.tokens.tokenizer.fast_encoding import PATTERNS, TiktokenEncoder, byte_alphabet
from parakit.tokens.tokenizer.unigram_training import MAX_PIECE, _Lattice, _seeds, learn_unigram

TRAIN_ALL_KINDS = """
import sys
from parakit.tokens import TokenizerConfig, train_tokenizer
text = open(sys.argv[1], encoding="utf-8").read()
texts = [text[i : i + 500] for i in range(0, len(text), 500)]
for kind in ("byte_bpe", "wordpiece", "unigram", "word", "char"):
    print(kind, train_tokenizer(texts, TokenizerConfig(kind=kind, vocab_size=400)).digest)
"""


def test_the_published_reference_is_reproduced(public_data: Callable[[str], Path]) -> None:
    folder = public_data("tok_bpe_train_reference")
    text = (folder / "corpus.en").read_bytes().decode()
    splitter = pre_tokenizers.Split(Regex(PATTERNS["gpt2"]), "isolated")
    words = count_words([text], splitter)
    parts = {tuple(bytes([byte]) for byte in word.encode()): count for word, count in words.items()}
    merges = learn_merges(parts, 500 - 256 - 1)
    alphabet = byte_alphabet()
    written = [tuple("".join(alphabet[byte] for byte in part) for part in pair) for pair in merges]
    lines = (folder / "train-bpe-reference-merges.txt").read_text(encoding="utf-8").splitlines()
    assert [" ".join(pair) for pair in written] == lines
    tokens = ["<|endoftext|>", *sorted(alphabet), *map("".join, written)]
    reference = json.loads((folder / "train-bpe-reference-vocab.json").read_text(encoding="utf-8"))
    assert {token: token_id for token_id, token in enumerate(tokens)} == reference


@given(
    st.dictionaries(
        st.text(alphabet="abcé", min_size=1, max_size=8) | st.text(alphabet="ab", min_size=1, max_size=80),
        st.integers(1, 9),
        min_size=1,
        max_size=12,
    )
)
def test_merges_equal_those_of_counting_anew_each_time(words: dict[str, int]) -> None:
    start = {tuple(bytes([b]) for b in word.encode()): count for word, count in words.items()}
    assert learn_merges(start, 20) == _slow_merges(start, 20)


def _slow_merges(words: dict[tuple[bytes, ...], int], n: int) -> list[tuple[bytes, bytes]]:
    state, merges = dict(words), []
    for _ in range(n):
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for parts, count in state.items():
            for pair in pairwise(parts):
                counts[pair] += count
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        merged = {}
        for parts, count in state.items():
            out: list[bytes] = []
            i = 0
            while i < len(parts):
                step = 2 if parts[i : i + 2] == best else 1
                out.append(b"".join(parts[i : i + step]))
                i += step
            merged[tuple(out)] = merged.get(tuple(out), 0) + count
        state = merged
    return merges


def test_greatest_pair_ties_train_a_tokenizer_that_is_still_fast() -> None:
    config = TokenizerConfig(vocab_size=320, ties="greatest_pair")
    tokenizer = train_tokenizer(["low lower lowest newer wider"] * 9, config)
    assert isinstance(tokenizer._encoder, TiktokenEncoder)
    assert tokenizer.decode(tokenizer.encode("lowest <|bos|> 7")) == "lowest <|bos|> 7"


def test_any_number_of_threads_gives_the_same_bytes(tmp_path: Path) -> None:
    from tests.tokens.conftest import sample_texts

    (tmp_path / "text").write_text("".join(sample_texts(200)), encoding="utf-8")
    printed = set()
    for n_threads, parallel in (("1", "false"), ("2", "true"), ("4", "true")):
        environment = os.environ | {"RAYON_NUM_THREADS": n_threads, "TOKENIZERS_PARALLELISM": parallel}
        command = [sys.executable, "-c", TRAIN_ALL_KINDS, str(tmp_path / "text")]
        printed.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(printed) == 1
    assert len(printed.pop().split()) == 10


def test_our_unigram_needs_no_more_tokens_than_the_librarys() -> None:
    from tests.tokens.conftest import sample_texts

    texts = sample_texts(150)
    actual = train_tokenizer(texts, TokenizerConfig(kind="unigram", vocab_size=200))
    expected = HuggingFaceTokenizer(models.Unigram())
    expected.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=189, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    expected.train_from_iterator(texts, trainer)
    n_ours = sum(len(actual.encode(text)) for text in texts)
    n_theirs = sum(len(expected.encode(text).ids) for text in texts)
    assert actual.vocab_size <= 200
    assert n_ours <= 1.05 * n_theirs


def test_unigram_probabilities_sum_to_one_and_characters_stay() -> None:
    pieces = learn_unigram({"▁abab": 10, "▁abc": 3, "c": 1}, 6)
    total = sum(2.718281828459045**score for _, score in pieces)
    assert total == pytest.approx(1)
    assert {"▁", "a", "b", "c"} <= {piece for piece, _ in pieces}


# Clauses without spaces, of a few hundred characters of which a few are rare.
UNSPACED = [
    "".join(chr(0x4E00 + (i * 37 + j * j * (1 + i % 7)) % 260) for j in range(30)) + "，很好。"
    for i in range(120)
]


@pytest.mark.parametrize("kind", ["unigram", "wordpiece"])
def test_text_without_spaces_has_almost_no_unknown_tokens(kind: str) -> None:
    tokenizer = train_tokenizer([*UNSPACED, "Is it? Yes!"], TokenizerConfig(kind=kind, vocab_size=900))
    assert unknown_share(tokenizer, UNSPACED) == 0.0
    assert tokenizer.unk_id not in tokenizer.encode("Is it? Yes!")  # rare next to so many characters
    if kind == "unigram":
        n_chars = sum(map(len, UNSPACED))
        assert sum(len(tokenizer.encode(text)) for text in UNSPACED) < 0.9 * n_chars


def test_unigram_spells_unknown_characters_as_bytes_by_choice(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    config = TokenizerConfig(kind="unigram", vocab_size=400, byte_fallback=True)
    tokenizer = train_tokenizer(["low lower lowest <0x41> newer 12"] * 9, config)
    text = "lower ᚠ 😀 <0x41>"
    token_ids = tokenizer.encode(text)
    assert tokenizer.unk_id not in token_ids
    assert tokenizer.decode(token_ids) == text
    assert tokenizer.token_id("<0x41>") not in token_ids
    tokenizer.save(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(text, add_special_tokens=False)["input_ids"] == token_ids
    with pytest.raises(UserError, match="raise vocab_size to 268"):
        train_tokenizer(["a"], TokenizerConfig(kind="unigram", vocab_size=260, byte_fallback=True))


def test_the_alphabet_is_as_large_as_the_text_needs() -> None:
    counts = Counter({"a": 100_000, "b": 50_000, **{chr(0x4E00 + i): 100 for i in range(40)}, "z": 1})
    assert len(choose_alphabet(counts, 100)) == 43  # all fit into half of the vocabulary
    assert len(choose_alphabet(counts, 43)) == 42  # all but 0.02 % of the text
    assert choose_alphabet(counts, 2) == ["a", "b"]


@given(
    st.lists(st.text(alphabet="abc", min_size=1, max_size=9), min_size=1, max_size=8),
    st.lists(st.text(alphabet="abcd", min_size=1, max_size=4), min_size=1, max_size=9, unique=True),
)
def test_the_lattice_has_every_occurrence_of_every_piece(words: list[str], names: list[str]) -> None:
    lattice = _Lattice.build(words, names)
    first = [sum(len(word) + 1 for word in words[:w]) for w in range(len(words))]
    actual = sorted(zip(lattice.word, lattice.start, lattice.end, lattice.piece, strict=True))
    expected = sorted(
        (w, first[w] + begin, first[w] + end, names.index(word[begin:end]))
        for w, word in enumerate(words)
        for begin in range(len(word))
        for end in range(begin + 1, len(word) + 1)
        if word[begin:end] in names
    )
    assert actual == expected


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=20), min_size=1, max_size=8, unique=True))
def test_seeds_are_the_substrings_that_occur_twice(words: list[str]) -> None:
    counts: Counter[str] = Counter()
    for weight, word in enumerate(words, 1):
        for begin in range(len(word)):
            for end in range(begin + 2, min(begin + MAX_PIECE, len(word)) + 1):
                counts[word[begin:end]] += weight
    weights = np.arange(1, len(words) + 1, dtype=np.float64)
    assert _seeds(words, weights, 10_000) == {piece: n for piece, n in counts.items() if n > 1}


def test_wordpiece_marks_what_continues_a_word() -> None:
    texts = ["unhappy unhappily happy happily"] * 20
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind="wordpiece", vocab_size=60))
    tokens = [tokenizer.token(i) for i in tokenizer.encode("unhappily")]
    assert not tokens[0].startswith("##")
    assert all(token.startswith("##") for token in tokens[1:])
    assert tokenizer.decode(tokenizer.encode("unhappily happy")) == "unhappily happy"


def test_digits_stand_alone_or_in_threes() -> None:
    texts = ["in 2024 and 2025 and 2024 again " * 20]
    alone = train_tokenizer(texts, TokenizerConfig(vocab_size=330))
    threes = train_tokenizer(texts, TokenizerConfig(vocab_size=330, split_digits=False))
    assert [alone.decode([i]) for i in alone.encode("2024")] == ["2", "0", "2", "4"]
    assert [threes.decode([i]) for i in threes.encode("2024")] == ["202", "4"]


def test_no_text_and_too_small_a_vocabulary_are_clear_errors() -> None:
    with pytest.raises(UserError, match="no text"):
        train_tokenizer([], TokenizerConfig())
    with pytest.raises(UserError, match="267"):
        train_tokenizer(["a"], TokenizerConfig(vocab_size=100))


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "word", "char"])
def test_no_text_is_an_error_for_every_kind(kind: str) -> None:
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(iter([""]), TokenizerConfig(kind=kind))


def test_reading_stops_at_the_byte_limit() -> None:
    read = []

    def texts() -> Iterator[str]:
        for i in range(100):
            read.append(i)
            yield "ten bytes\n"

    train_tokenizer(texts(), TokenizerConfig(vocab_size=300, max_train_bytes=50))
    assert len(read) == 5


def test_markers_in_the_training_text_never_become_control_tokens() -> None:
    texts = ["<|user|><|end|><|bos|>" * 50] * 5
    for kind in ("byte_bpe", "wordpiece", "unigram", "word", "char"):
        tokenizer = train_tokenizer(texts, TokenizerConfig(kind=kind, vocab_size=400))
        assert not set(tokenizer.encode("<|user|><|end|> <|bos|>")) & tokenizer.control_ids


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "unigram"])
def test_a_text_without_word_ends_is_cut_for_training_and_encoded_whole(kind: str) -> None:
    """Time was quadratic in a word's length: 20,000 letters took WordPiece over a minute."""
    letters = rng(0, "letters").choice(list("abcdefghij"), 20_000)
    text = "".join(letters)
    tokenizer = train_tokenizer(iter([text]), TokenizerConfig(kind=kind, vocab_size=500))
    words = count_words([text], pre_tokenizers.WhitespaceSplit())
    assert max(map(len, words)) == MAX_WORD
    assert "".join(words.elements()) == text
    assert tokenizer.vocab_size > 400
    if kind != "wordpiece":  # whose longest word is 1,000 letters
        assert tokenizer.decode(tokenizer.encode(text)) == text


RUNS = st.lists(
    st.tuples(st.sampled_from(["a", "é", " ", "\n", "!", "7", "a ", " !", "\n "]), st.integers(1, 300)),
    max_size=8,
)


@given(RUNS, st.booleans())
def test_only_words_that_are_too_long_are_cut(runs: list[tuple[str, int]], each_digit: bool) -> None:
    text = "".join(part * n for part, n in runs)
    splitter = training._word_splitter(TokenizerConfig(split_digits=each_digit))
    pieces = list(training._cut_long_words([text], splitter))
    assert "".join(pieces) == text
    words = [word for word, _ in splitter.pre_tokenize_str(text)]
    if all(len(word) <= MAX_WORD for word in words):
        assert pieces == [text]
    found = [word for piece in pieces for word, _ in splitter.pre_tokenize_str(piece)]
    assert max(map(len, found), default=0) <= MAX_WORD
    cut = [word[i : i + MAX_WORD] for word in words for i in range(0, len(word), MAX_WORD)]
    if not any(word.isspace() and len(word) > MAX_WORD for word in words):  # whose pieces may split once more
        assert found == cut
