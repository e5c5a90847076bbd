"""Marian's two models over one vocabulary: the source is cut by one, the target by the other."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import pytest

from parakit.common import CorruptArtifact, UserError
from parakit.tokens import Tokenizer
from parakit.tokens.tokenizer.special_tokens_template import add_special_tokens

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")

ENGLISH = ["A man rides a red bicycle through the park.", "Two dogs are playing with a ball near the water."]
GERMAN = [
    "Ein Mann fährt mit einem roten Fahrrad durch den Park.",
    "Zwei Hunde spielen am Wasser mit einem Ball.",
]


def train(sentences: list[str]) -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 5),
        model_writer=out,
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return out.getvalue()


def pieces_of(model: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as opus-mt's are, with a language code."""
    folder = tmp_path_factory.mktemp("marian")
    source, target = train(ENGLISH), train(GERMAN)
    forms = ["</s>", "<unk>", *sorted({*pieces_of(source), *pieces_of(target)}), ">>deu<<", "<pad>"]
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    (folder / "vocab.json").write_text(json.dumps({form: i for i, form in enumerate(forms)}))
    (folder / "tokenizer_config.json").write_text('{"source_lang": "en", "target_lang": "de"}')
    return folder


@pytest.fixture(scope="module")
def reference(folder: Path) -> object:
    """transformers' own; it recommends a package that is not needed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.MarianTokenizer.from_pretrained(folder)


def test_source_and_target_ids_are_those_of_transformers(folder: Path, reference: object) -> None:
    actual = Tokenizer.load(folder)
    assert actual.target is not actual
    for text in [*ENGLISH, "the dogs  ride near a ball", ""]:
        assert add_special_tokens(actual, actual.encode(text)).token_ids == reference(text)["input_ids"]
    for text in [*GERMAN, "Hunde fahren Fahrrad", ""]:
        made = add_special_tokens(actual.target, actual.target.encode(text)).token_ids
        assert made == reference(text_target=text)["input_ids"]
        assert actual.decode(made) == reference.decode(made, skip_special_tokens=True)
    assert actual.encode(GERMAN[0]) != actual.target.encode(GERMAN[0])


def test_special_tokens_and_language_codes(folder: Path, reference: object) -> None:
    actual = Tokenizer.load(folder)
    assert (actual.eos_id, actual.pad_id, actual.unk_id) == (
        reference.eos_token_id,
        reference.pad_token_id,
        reference.unk_token_id,
    )
    assert actual.bos_id is None
    code = actual.token_id(">>deu<<")
    assert code in actual.control_ids
    assert code not in actual.encode(">>deu<< a man")
    assert actual.vocab_size == len(reference)


def test_a_letter_of_the_other_side_alone_keeps_its_id(folder: Path) -> None:
    actual = Tokenizer.load(folder)
    assert actual.token_id("ä") in actual.encode("A män")
    assert actual.unk_id in actual.encode("A m你n")


def test_a_saved_translator_keeps_both_sides_and_transformers_reads_the_source(
    folder: Path, tmp_path: Path
) -> None:
    actual = Tokenizer.load(folder)
    actual.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.digest == actual.digest
    assert loaded.target.encode(GERMAN[0]) == actual.target.encode(GERMAN[0])
    fast = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert fast(ENGLISH[0])["input_ids"] == add_special_tokens(actual, actual.encode(ENGLISH[0])).token_ids


def test_equal_models_need_no_second_side(folder: Path, tmp_path: Path) -> None:
    for name in ("source.spm", "target.spm"):
        (tmp_path / name).write_bytes((folder / "source.spm").read_bytes())
    (tmp_path / "vocab.json").write_text((folder / "vocab.json").read_text())
    actual = Tokenizer.load(tmp_path)
    assert actual.target is actual


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: {form: i for i, form in enumerate(["</s>", "<unk>", "a"])},
            "most of its pieces are not in",
        ),
        (lambda v: {form: 2 * i for form, i in v.items()}, "have gaps"),
        (lambda v: {form.replace("<unk>", "<nope>"): i for form, i in v.items()}, "has no <unk>"),
    ],
)
def test_files_that_do_not_belong_together_are_named(
    change, message: str, folder: Path, tmp_path: Path
) -> None:
    for name in ("source.spm", "target.spm"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "vocab.json").write_text(json.dumps(change(json.loads((folder / "vocab.json").read_text()))))
    with pytest.raises(CorruptArtifact, match=message):
        Tokenizer.load(tmp_path)


def test_two_vocabularies_are_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    for name in ("source.spm", "target.spm", "vocab.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"separate_vocabs": true}')
    with pytest.raises(UserError, match="an id would mean two pieces"):
        Tokenizer.load(tmp_path)
