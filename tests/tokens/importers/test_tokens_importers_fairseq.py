"""Tokenizers whose ids are not those of their sentencepiece model: XLM-R, mBART, NLLB, M2M100, Pegasus, DeBERTa-v2."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.common import CorruptArtifact, UserError
from parakit.tokens import Tokenizer
from parakit.tokens.importers.sample_check import SAMPLES, check_sample
from parakit.tokens.tokenizer.special_tokens_template import add_special_tokens

sentencepiece = pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog; it isn't 1999 any more, is it?",
    "She sells sea shells by the sea shore, and the shells she sells are sea shells!",
    "Der Fluß fließt über große Steine, naïve café, 你好 мир.",
]
TEXTS = [text.strip() for text in (*SENTENCES, *SAMPLES) if "\n" not in text]
FAIRSEQ, BY_LIST, PEGASUS, SAME = "one later", "by vocab.json", "103 later", "the same"
CODES = ["deu_Latn", "eng_Latn", "fra_Latn"]


def train(kind: str, **options: object) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 5),
        model_writer=model,
        model_type=kind,
        vocab_size=150,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """Small sentencepiece models, numbered as those of the families."""
    bert = {
        f"{name}_piece": f"[{string}]"
        for name, string in zip(("pad", "bos", "eos", "unk"), ("PAD", "CLS", "SEP", "UNK"), strict=True)
    }
    return {
        "unigram": train("unigram"),
        "bpe": train("bpe"),
        "pegasus": train("unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1),
        "deberta": train("unigram", pad_id=0, bos_id=1, eos_id=2, unk_id=3, **bert),
    }


# class: model, its file, settings, numbering, ids around "a" (purposes or strings), the last token
CASES = {
    "XLMRobertaTokenizer": ("unigram", "sentencepiece.bpe.model", {}, FAIRSEQ, "<s> a </s>", "<mask>"),
    "MBartTokenizer": (
        "unigram",
        "sentencepiece.bpe.model",
        {"src_lang": "de_DE"},
        FAIRSEQ,
        "a </s> de_DE",
        "<mask>",
    ),
    "MBart50Tokenizer": ("unigram", "sentencepiece.bpe.model", {}, FAIRSEQ, "en_XX a </s>", "<mask>"),
    "NllbTokenizer": (
        "bpe",
        "sentencepiece.bpe.model",
        {"additional_special_tokens": CODES},
        FAIRSEQ,
        "eng_Latn a </s>",
        "<mask>",
    ),
    "M2M100Tokenizer": (
        "bpe",
        "sentencepiece.bpe.model",
        {"additional_special_tokens": ["__de__", "__en__"]},
        BY_LIST,
        "__en__ a </s>",
        "__en__",
    ),
    "PegasusTokenizer": ("pegasus", "spiece.model", {}, PEGASUS, "a </s>", None),
    "DebertaV2Tokenizer": ("deberta", "spm.model", {}, SAME, "[CLS] a [SEP]", "[MASK]"),
}


def write(folder: Path, name: str, models: dict[str, bytes]) -> tuple[Path, Callable[[str], list[int]]]:
    """A folder of the class, and the ids that its sentencepiece model and its numbering give."""
    model, file, settings, numbering, _, _ = CASES[name]
    reference = sentencepiece.SentencePieceProcessor(model_proto=models[model])
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(models[model])
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **settings}))
    pieces = [reference.id_to_piece(i) for i in range(reference.vocab_size())]
    listed = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *sorted(pieces[3:])])}
    if numbering == BY_LIST:
        (folder / "vocab.json").write_text(json.dumps(listed))
    new_id = {
        FAIRSEQ: lambda i: i + 1 if i else 3,
        BY_LIST: lambda i: listed[pieces[i]],
        PEGASUS: lambda i: i + 103,
        SAME: lambda i: i,
    }[numbering]
    return folder, lambda text: [new_id(i) for i in reference.encode(text)]


@pytest.mark.parametrize("name", CASES)
def test_ids_are_sentencepieces_at_the_familys_numbers(
    name: str, models: dict[str, bytes], tmp_path: Path
) -> None:
    folder, expected = write(tmp_path, name, models)
    actual = Tokenizer.load(folder)
    check_sample(actual, name)
    for text in (*TEXTS, *SAMPLES):
        assert actual.encode(text) == expected(text), text
    around, last = CASES[name][4:]
    made = add_special_tokens(actual, actual.encode("a")).token_ids
    before, after = around.split(" a ") if " a " in around else ("", around.removeprefix("a "))
    ends = [[actual.token_id(word) for word in words.split()] for words in (before, after)]
    assert made == [*ends[0], *actual.encode("a"), *ends[1]]
    assert last is None or actual.token_id(last) == actual.vocab_size - 1
    assert actual.pad_id is not None
    assert actual.eos_id is not None
    actual.save(tmp_path / "saved")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in TEXTS:
        assert again(text)["input_ids"] == add_special_tokens(actual, actual.encode(text)).token_ids


@pytest.mark.parametrize("name", [name for name in CASES if name != "NllbTokenizer"])
def test_transformers_own_class_agrees(name: str, models: dict[str, bytes], tmp_path: Path) -> None:
    # transformers 5 numbers NLLB's <mask> otherwise than the published tokenizer.json does.
    folder, _ = write(tmp_path, name, models)
    if name == "M2M100Tokenizer":  # transformers knows a hundred languages, by their order
        codes = transformers.models.m2m_100.tokenization_m2m_100.FAIRSEQ_LANGUAGE_CODES["m2m100"]
        settings = {"tokenizer_class": name, "additional_special_tokens": [f"__{code}__" for code in codes]}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    actual, reference = Tokenizer.load(folder), getattr(transformers, name).from_pretrained(folder)
    for text in SENTENCES:
        made = add_special_tokens(actual, actual.encode(text))
        assert made.token_ids == reference(text)["input_ids"]
        pair = add_special_tokens(actual, actual.encode(text), actual.encode("she sells"))
        assert pair.token_ids == reference(text, "she sells")["input_ids"]
    assert actual.mask_id == (None if name == "M2M100Tokenizer" else reference.mask_token_id)


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        ("NllbTokenizer", {}, UserError, "names no language codes"),
        ("MBartTokenizer", {"src_lang": "tlh_XX"}, UserError, "'tlh_XX' is no language"),
        ("PegasusTokenizer", {"offset": -1}, CorruptArtifact, "offset is -1"),
        ("DebertaV2Tokenizer", {"split_by_punct": True}, UserError, "split_by_punct"),
    ],
)
def test_what_the_numbering_needs_is_named(
    name: str,
    settings: dict,
    error: type[UserError],
    message: str,
    models: dict[str, bytes],
    tmp_path: Path,
) -> None:
    folder, _ = write(tmp_path, name, models)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **settings}))
    with pytest.raises(error, match=message):
        Tokenizer.load(folder)


def test_the_class_is_that_of_the_model_where_none_is_named(models: dict[str, bytes], tmp_path: Path) -> None:
    folder, expected = write(tmp_path, "MBartTokenizer", models)
    (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "mbart"}))
    actual = Tokenizer.load(folder)
    assert actual.token_id("ro_RO") is not None
    assert actual.encode("sea shells") == expected("sea shells")
    (folder / "sentencepiece.bpe.model").write_bytes(models["pegasus"])
    with pytest.raises(CorruptArtifact, match="does not begin with <unk> <s> </s>"):
        Tokenizer.load(folder)
