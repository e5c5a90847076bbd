"""New tokens for a published tokenizer: old ids stay, transformers agrees, and each new token is made of old ones."""

from __future__ import annotations

import gzip
import io
import json
import string
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from parakit.common.errors import UserError
from parakit.tokens import Tokenizer
from parakit.tokens.importers.sample_check import SAMPLES, check_sample
from parakit.tokens.tokenizer.extension import extend_tokenizer
from parakit.tokens.tokenizer.fast_encoding import TiktokenEncoder

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")

ENGLISH = ["The cat sat on the mat, unaffable as ever; it didn't say: 12345 cats!"] * 9
GERMAN = ["Die Straßenbahn fährt über die Brücke, und die Katze sitzt in der Straßenbahn."] * 5
PIECES = {"user_defined_symbols": ["<mark>"], "minloglevel": 2, "num_threads": 1, "hard_vocab_limit": False}


def sentencepiece_file(**options: object) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*ENGLISH, string.ascii_letters * 3, "äöüßÄÖÜ" * 3]),
        model_writer=model,
        vocab_size=120,
        **PIECES,
        **options,
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Small published tokenizers: byte BPE with added tokens behind the vocabulary, sentencepiece's BPE and Unigram."""
    root = tmp_path_factory.mktemp("published")
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(ENGLISH, vocab_size=280, show_progress=False)
    trained.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    files = {
        "byte_bpe": ("tokenizer.json", trained.to_str().encode()),
        "bpe": ("tokenizer.model", sentencepiece_file(model_type="bpe")),
        "unigram": ("spiece.model", sentencepiece_file(model_type="unigram")),
    }
    for name, (file, data) in files.items():
        (root / name).mkdir()
        (root / name / file).write_bytes(data)
    return {name: Tokenizer.load(root / name) for name in files}


@pytest.mark.parametrize("kind", ["byte_bpe", "bpe", "unigram"])
def test_old_ids_stay_and_transformers_reads_the_new_ones(
    kind: str, published: dict[str, Tokenizer], tmp_path: Path
) -> None:
    old = published[kind]
    made = extend_tokenizer(old, iter(GERMAN), 12)
    new = made.tokenizer
    assert new.vocabulary.items() >= old.vocabulary.items()
    assert list(made.pieces) == list(range(old.vocab_size, new.vocab_size))
    assert len(made.pieces) == 12
    assert made.tokens_per_word_after < 0.9 * made.tokens_per_word_before
    n_words = len(GERMAN[0].split())
    assert made.tokens_per_word_before == pytest.approx(len(old.encode(GERMAN[0])) / n_words)
    assert made.tokens_per_word_after == pytest.approx(len(new.encode(GERMAN[0])) / n_words)
    for token_id, parts in made.pieces.items():
        assert len(parts) > 1
        assert new.token(token_id) == "".join(old.token(part) for part in parts)
    assert new.special_tokens == old.special_tokens
    check_sample(new, kind)
    new.save(tmp_path)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*GERMAN[:1], *ENGLISH[:1], *SAMPLES, "die Straßenbahnen"):
        assert reference(text, add_special_tokens=False)["input_ids"] == new.encode(text), text
    if kind == "byte_bpe":
        assert isinstance(new._encoder, TiktokenEncoder)
        assert new.decode(new.encode(GERMAN[0])) == GERMAN[0]


@pytest.mark.parametrize("kind", ["byte_bpe", "bpe", "unigram"])
def test_listed_words_become_one_token_each(kind: str, published: dict[str, Tokenizer]) -> None:
    words = ["Straßenbahn", "Bahnsteig", "Straßen", "bahn"]
    made = extend_tokenizer(published[kind], iter(GERMAN), words)
    for word in words:
        token_ids = made.tokenizer.encode(f"a {word}")
        assert len(token_ids) == 1 + len(made.tokenizer.encode("a")), word
        assert token_ids[-1] in made.pieces
    if kind == "unigram":
        assert len(made.pieces) == len(words)


def test_what_cannot_become_a_token_is_named(published: dict[str, Tokenizer]) -> None:
    byte_bpe = published["byte_bpe"]
    with pytest.raises(UserError, match=r"'HbA1c' cannot become one token.*'1'"):
        extend_tokenizer(byte_bpe, GERMAN, ["HbA1c"])
    known = next(token for token in byte_bpe.vocabulary if token[0] == "Ġ" and token[1:].isalpha())
    with pytest.raises(UserError, match=f"'{known[1:]}' is a token already"):
        extend_tokenizer(byte_bpe, GERMAN, [known[1:]])
    with pytest.raises(UserError, match="'ᚠᚢ' cannot become one token: it has characters"):
        extend_tokenizer(published["unigram"], GERMAN, ["ᚠᚢ"])
    with pytest.raises(UserError, match="no text"):
        extend_tokenizer(byte_bpe, [], 5)
    vocabulary = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words = Tokenizer(vocabulary.to_str(), kind="word", special=byte_bpe.special)
    with pytest.raises(UserError, match="is a word, which new tokens cannot extend"):
        extend_tokenizer(words, GERMAN, 5)


def test_pairs_that_occur_once_become_no_token(published: dict[str, Tokenizer]) -> None:
    assert extend_tokenizer(published["byte_bpe"], ["Xq zw"], 50).pieces == {}


@pytest.mark.long
def test_german_on_the_real_135m_models_tokenizer(
    published_model: Callable[[str], Path], public_data: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = published_model("smollm2")
    reference = transformers.AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    reference.save_pretrained(tmp_path / "published")
    old = Tokenizer.load(tmp_path / "published")
    lines = {
        split: gzip.decompress((public_data("multi30k") / f"{split}.de.gz").read_bytes())
        .decode()
        .splitlines()
        for split in ("train", "val")
    }
    made = extend_tokenizer(old, lines["train"][:6000], 1000)
    assert len(made.pieces) == 1000
    n_words = sum(len(line.split()) for line in lines["val"])
    before, after = (sum(map(len, one.encode_bulk(lines["val"]))) / n_words for one in (old, made.tokenizer))
    assert before > 2.4
    assert after < 1.6
    made.tokenizer.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["type"] == "BPE"
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for line in lines["val"][:200]:
        assert reference(line)["input_ids"] == made.tokenizer.encode(line)
