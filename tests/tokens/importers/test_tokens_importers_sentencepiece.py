"""Sentencepiece models read by our own reader give sentencepiece's ids, on small models and on published ones."""

from __future__ import annotations

import gzip
import io
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common import CorruptArtifact, UserError
from parakit.tokens import Tokenizer
from parakit.tokens.importers.sentencepiece_model import read_sentencepiece
from tests.short_suite import examples

sentencepiece = pytest.importorskip("sentencepiece")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog; it isn't 1999 any more, is it?",
    "She sells sea shells by the sea shore......  and the shells she sells are sea shells!",
    "ﬁne ½ ① naïve café Straße, 你好 мир, der Fluß fließt über große Steine.",
    "aaaa aaa aa a bbbb abab ababab --- ---- ------ 100,000.00 %, a < b > c, 0x14 = 20, 4 / 2",
]
# `tokenizers` normalises marks that combine (and half-width sound marks) otherwise than sentencepiece does.
COMBINING = {"Mn", "Mc", "Me", "Cs", "Cn", "Co"}
LETTERS = st.characters(
    exclude_categories=("Cs", "Cn", "Co", "Mn", "Mc", "Me"), exclude_characters="\uff9e\uff9f"
)
TEXTS = st.one_of(
    st.text(st.sampled_from(list("ab ▁.-<>0x4/s\n\t\r\u3000\u200b\u00ad\x00éßﬁ½你")), max_size=40),
    st.lists(st.sampled_from(" ".join(SENTENCES).split()), max_size=12).map(" ".join),
    st.text(LETTERS, max_size=20),
)


@dataclass
class Pair:
    """Our tokenizer, sentencepiece's, and the score of each piece."""

    actual: Tokenizer
    reference: object
    scores: list[float]

    def check(self, text: str) -> None:
        actual, reference = self.actual.encode(text), self.reference.encode(text)
        if actual != reference:  # two spellings that are equally probable: sentencepiece's 32-bit sums decide
            totals = [sum(self.scores[i] for i in ids) for ids in (actual, reference)]
            assert len(actual) == len(reference), (text, actual, reference)
            assert totals[0] == pytest.approx(totals[1], abs=1e-4), (text, actual, reference)
        unknown = self.reference.unk_id()
        if unknown not in reference:
            assert self.actual.decode(reference) == self.reference.decode(reference)


def load(folder: Path, data: bytes, name: str) -> Pair:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    scores = [piece.score for piece in read_sentencepiece(folder / name).pieces]
    return Pair(Tokenizer.load(folder), sentencepiece.SentencePieceProcessor(model_proto=data), scores)


def train(**options: object) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 5),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return model.getvalue()


MODELS = {
    "t5": (
        "spiece.model",
        {"model_type": "unigram", "vocab_size": 150, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    ),
    "unigram_with_bytes": (
        "spiece.model",
        {"model_type": "unigram", "vocab_size": 400, "byte_fallback": True},
    ),
    "llama": (
        "tokenizer.model",
        {
            "model_type": "bpe",
            "vocab_size": 420,
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "allow_whitespace_only_pieces": True,
            "split_digits": True,
        },
    ),
    "bpe_without_bytes": (
        "tokenizer.model",
        {"model_type": "bpe", "vocab_size": 150, "add_dummy_prefix": False},
    ),
    "gemma": (
        "tokenizer.model",
        {
            "model_type": "bpe",
            "vocab_size": 420,
            "byte_fallback": True,
            "user_defined_symbols": [
                "\n",
                "\n\n",
                "\u2581\u2581",
                "\u2581\u2581\u2581",
                "<h1>",
                "<start_of_turn>",
            ],
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
            "allow_whitespace_only_pieces": True,
        },
    ),
    "bpe_with_own_words": (
        "tokenizer.model",
        {"model_type": "bpe", "vocab_size": 150, "user_defined_symbols": ["shells", "ab", "[INST]"]},
    ),
    "own_words": (
        "spiece.model",
        {"model_type": "unigram", "vocab_size": 150, "user_defined_symbols": ["shells", "ab"]},
    ),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """One small model of each kind."""
    root = tmp_path_factory.mktemp("sentencepiece")
    return {name: load(root / name, train(**options), file) for name, (file, options) in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
@examples(80)
@given(text=TEXTS)
def test_ids_and_texts_are_those_of_sentencepiece(pairs: dict[str, Pair], name: str, text: str) -> None:
    pairs[name].check(text)


def test_user_defined_pieces_are_cut_from_the_text(pairs: dict[str, Pair]) -> None:
    for name, texts in {
        "gemma": ["a    b\n\n\nc", "<h1>x  <h1>"],
        "bpe_with_own_words": ["shellshells ab", "shellsab", "she sells shells"],
    }.items():
        for text in texts:
            pairs[name].check(text)
    gemma, own = pairs["gemma"].actual, pairs["bpe_with_own_words"].actual
    assert gemma.token_id("\u2581\u2581\u2581") in gemma.encode("a   b")
    assert {gemma.token_id("<start_of_turn>")} <= gemma.control_ids
    assert own.token_id("shells") in own.encode("sea shells")


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_tokenizer_is_the_same_tokenizer(pairs: dict[str, Pair], name: str, tmp_path: Path) -> None:
    tokenizer = pairs[name].actual
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.digest, loaded.special, loaded.kind) == (
        tokenizer.digest,
        tokenizer.special,
        tokenizer.kind,
    )
    assert [loaded.encode(text) for text in SENTENCES] == [tokenizer.encode(text) for text in SENTENCES]


def test_no_text_becomes_a_control_token_or_the_piece_of_a_byte(pairs: dict[str, Pair]) -> None:
    for pair in pairs.values():
        ids = set(pair.actual.encode("</s><s> <pad><unk> <extra_id_0> [INST] <start_of_turn>"))
        assert not ids & pair.actual.control_ids
    bytes_pair = pairs["unigram_with_bytes"]
    assert bytes_pair.actual.token_id("<0x41>") not in bytes_pair.actual.encode("<0x41>")


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        ("tok_sentencepiece/test_model.model", "botchan.txt.gz"),
        ("tok_sentencepiece/test_ja_model.model", "wagahaiwa_nekodearu.txt.gz"),
        ("tok_t5_clip_openai_gpt/t5_tokenizer_base.model", "botchan.txt.gz"),
        ("tok_t5_clip_openai_gpt/spm_example.model", "botchan.txt.gz"),
    ],
)
def test_published_models_give_the_published_ids(
    model: str, texts: str, public_data: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, name = model.split("/")
    pair = load(tmp_path, (public_data(folder) / name).read_bytes(), "spiece.model")
    lines = gzip.decompress((public_data("tok_sentencepiece") / texts).read_bytes()).decode().splitlines()
    samples = (
        (public_data("tok_llamacpp_vectors") / "all.gguf.inp").read_text("utf-8").split("__ggml_vocab_test__")
    )
    plain = [s for s in samples if not any(unicodedata.category(char) in COMBINING for char in s)]
    assert len(plain) > 35
    for text in [*lines[::8], *plain]:
        pair.check(text)


def test_what_tokenizer_json_cannot_say_is_refused_with_the_reason(tmp_path: Path) -> None:
    cases = {
        "type 'char'": {"model_type": "char", "vocab_size": 60},
        "spaces to words": {"model_type": "unigram", "vocab_size": 150, "treat_whitespace_as_suffix": True},
        "would change its user-defined piece '½'": {
            "model_type": "bpe",
            "vocab_size": 150,
            "user_defined_symbols": ["½"],
        },
    }
    for number, (reason, options) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "tokenizer.model").write_bytes(train(**options))
        with pytest.raises(UserError, match=reason) as error:
            Tokenizer.load(folder)
        assert "tokenizer.json" in error.value.hint


def test_a_file_that_is_no_model_names_itself(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")  # a rank file of the same name
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.model: not readable as a sentencepiece model"):
        Tokenizer.load(tmp_path)
