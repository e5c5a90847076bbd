"""Folders of published tokenizers, with and without a tokenizer.json, give the ids that transformers and the published
vectors give.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common import CorruptArtifact, UserError
from parakit.tokens import Tokenizer, compile_chat
from parakit.tokens.importers.sample_check import SAMPLES, check_sample
from parakit.tokens.tokenizer.fast_encoding import TiktokenEncoder
from parakit.tokens.tokenizer.special_tokens_template import add_special_tokens
from tests.short_suite import examples

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")
tokenizers = pytest.importorskip("tokenizers")

WORDS = [
    "the",
    "un",
    "##aff",
    "##able",
    "cat",
    "sat",
    "naive",
    "##s",
    ",",
    "!",
    "'",
    "t",
    "don",
    "Cat",
    "é",
    "你",
]
BERT_VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"abcdefghijklmnopqrstuvwxyz"]
LEARN = ["The cat sat on the mat, unaffable as ever; it didn't say: 12345 cats!"] * 9
# Without marks that stand for a control token, which transformers reads and we do not.
TEXTS = st.text(
    st.one_of(
        st.sampled_from(list("the cat sat on a mat ,.!?'\n\t  0123é你Üß")),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=30,
)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def byte_bpe_files(first: list[str], last: list[str]) -> dict[str, str]:
    """vocab.json and merges.txt of a small byte BPE, with special tokens before and after."""
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(LEARN, vocab_size=300, show_progress=False)
    described = json.loads(trained.to_str())["model"]
    tokens = [*first, *sorted(described["vocab"], key=described["vocab"].get), *last]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in described["merges"]]
    return {
        "vocab.json": json.dumps({token: i for i, token in enumerate(tokens)}),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small folder of each layout that has no tokenizer.json."""
    root = tmp_path_factory.mktemp("folders")
    bart = byte_bpe_files(["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"])
    qwen = byte_bpe_files([], [])
    n = len(json.loads(qwen["vocab.json"]))
    forms = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    added = {str(n + i): {"content": form, "special": True} for i, form in enumerate(forms)}
    settings = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "bos_token": None}
    settings |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return {
        "BertTokenizer": write(root / "bert", {"vocab.txt": "\n".join(BERT_VOCABULARY) + "\n"}),
        "BertTokenizer cased": write(
            root / "cased",
            {"vocab.txt": "\r\n".join(BERT_VOCABULARY), "tokenizer_config.json": '{"do_lower_case": false}'},
        ),
        "GPT2Tokenizer": write(root / "gpt2", byte_bpe_files([], ["<|endoftext|>"])),
        "BartTokenizer": write(root / "bart", bart),
        "MPNetTokenizer": write(
            root / "mpnet",
            {
                "vocab.txt": "\n".join(
                    ["<s>", "<pad>", "</s>", *BERT_VOCABULARY[1:2], *WORDS, *"aesx", "<mask>"]
                ),
                "config.json": '{"model_type": "mpnet"}',
            },
        ),
        "Qwen2Tokenizer": write(root / "qwen", {**qwen, "tokenizer_config.json": json.dumps(settings)}),
    }


@pytest.fixture(scope="module")
def both(folders: dict[str, Path]) -> dict[str, tuple[Tokenizer, object]]:
    """Our tokenizer of each folder, and transformers'."""
    return {
        name: (Tokenizer.load(folder), getattr(transformers, name.split()[0]).from_pretrained(folder))
        for name, folder in folders.items()
    }


NAMES = [
    "BertTokenizer",
    "BertTokenizer cased",
    "MPNetTokenizer",
    "GPT2Tokenizer",
    "BartTokenizer",
    "Qwen2Tokenizer",
]


@pytest.mark.parametrize("name", NAMES)
@examples(60)
@given(text=TEXTS, second=TEXTS.filter(bool))
def test_ids_and_frames_are_those_of_transformers(
    both: dict[str, tuple[Tokenizer, object]], name: str, text: str, second: str
) -> None:
    actual, reference = both[name]
    made = reference(text, return_token_type_ids=True)
    encoded_text = add_special_tokens(actual, actual.encode(text))
    assert (encoded_text.token_ids, encoded_text.token_type_ids) == (
        made["input_ids"],
        made["token_type_ids"],
    )
    made = reference(text, second, return_token_type_ids=True)
    encoded_text = add_special_tokens(actual, actual.encode(text), actual.encode(second))
    assert (encoded_text.token_ids, encoded_text.token_type_ids) == (
        made["input_ids"],
        made["token_type_ids"],
    )
    ids = actual.encode(text)
    assert actual.decode(ids) == reference.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_are_found_as_transformers_finds_them(
    both: dict[str, tuple[Tokenizer, object]], name: str
) -> None:
    actual, reference = both[name]
    for purpose in ("bos", "eos", "sep", "cls", "mask"):
        assert getattr(actual, f"{purpose}_id") == getattr(reference, f"{purpose}_token_id"), purpose
    if reference.pad_token_id != reference.eos_token_id:
        assert actual.pad_id == reference.pad_token_id
    forms = "".join(reference.all_special_tokens)
    assert not set(actual.encode(forms)) & actual.control_ids
    if name in ("GPT2Tokenizer", "Qwen2Tokenizer"):
        assert isinstance(actual._encoder, TiktokenEncoder)
        assert actual.unk_id is None


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_folder_is_read_alike_by_transformers_and_by_us(
    both: dict[str, tuple[Tokenizer, object]], name: str, tmp_path: Path
) -> None:
    actual, _ = both[name]
    with_types = name.startswith("Bert")
    actual.save(tmp_path, token_types=with_types)
    again, reference = Tokenizer.load(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (again.digest, again.special) == (actual.digest, actual.special)
    for text in ("The cat sat, naïve!", "  you don't  ", ""):
        made = reference(text, "Cat!")
        encoded_text = add_special_tokens(again, again.encode(text), again.encode("Cat!"))
        assert made["input_ids"] == encoded_text.token_ids
        assert made.get("token_type_ids") == (encoded_text.token_type_ids if with_types else None)


def test_tokenizer_json_as_transformers_writes_it_is_read(
    both: dict[str, tuple[Tokenizer, object]], tmp_path: Path
) -> None:
    for name, (actual, reference) in both.items():
        reference.save_pretrained(tmp_path / name)
        loaded = Tokenizer.load(tmp_path / name)
        for text in ("The cat sat, naïve!", "  you don't \n"):
            assert loaded.encode(text) == actual.encode(text)
            assert add_special_tokens(loaded, loaded.encode(text)) == add_special_tokens(
                actual, actual.encode(text)
            )
        assert {**loaded.special.strings, "unk": None} == {**actual.special.strings, "unk": None}


def test_modernberts_byte_bpe_with_berts_special_tokens(tmp_path: Path) -> None:
    trained = tokenizers.ByteLevelBPETokenizer()
    forms = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    trained.train_from_iterator(LEARN, vocab_size=300, special_tokens=forms, show_progress=False)
    whole = tokenizers.Tokenizer.from_str(trained.to_str())
    ends = [(form, whole.token_to_id(form)) for form in ("[CLS]", "[SEP]")]
    whole.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ends
    )
    names = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"), forms, strict=True))
    reference = transformers.PreTrainedTokenizerFast(tokenizer_object=whole, **names)
    reference.save_pretrained(tmp_path)
    actual = Tokenizer.load(tmp_path)
    assert actual.kind == "byte_bpe"
    assert (actual.cls_id, actual.sep_id, actual.mask_id) == (1, 2, 4)
    for text in ("The cat sat", "it didn't\n\n"):
        assert (
            add_special_tokens(actual, actual.encode(text), actual.encode("on")).token_ids
            == reference(text, "on")["input_ids"]
        )


def test_a_conversation_of_a_tokenizer_that_prefixes_only_the_first_text(tmp_path: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", "\u2581", *"helowrd!", "\u2581h", "\u2581he", "[INST]", "[/INST]"]
    reference = transformers.LlamaTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[("\u2581", "h"), ("\u2581h", "e")],
        extra_special_tokens=["[INST]", "[/INST]"],
    )
    reference.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}"
        "{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    reference.save_pretrained(tmp_path)
    actual = Tokenizer.load(tmp_path)
    conversation = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello world"}]
    made = reference.apply_chat_template(conversation, return_dict=False)
    assert compile_chat(actual, conversation).token_ids == made
    assert actual.encode("hello") == reference("hello", add_special_tokens=False)["input_ids"]
    assert actual.token(actual.encode("hello")[0]) == "\u2581he"
    assert compile_chat(actual, conversation).token_ids[2] == actual.token_id(
        "h"
    )  # after a control token: no space


def test_published_bert_gives_the_published_ids(public_data: Callable[[str], Path], tmp_path: Path) -> None:
    files, vectors = public_data("tok_bert"), public_data("tok_hf_vectors")
    folder = write(
        tmp_path, {"vocab.txt": gzip.decompress((files / "bert_base_uncased_vocab.txt.gz").read_bytes())}
    )
    actual = Tokenizer.load(folder)
    questions = json.loads(gzip.decompress((vectors / "question_tokens.json.gz").read_bytes()))
    ids = json.loads(gzip.decompress((vectors / "tokenized_questions.json.gz").read_bytes()))
    assert len(questions) == len(ids) > 10_000
    made = actual.encode_bulk([question["original"] for question in questions])
    assert [one.tolist() for one in made] == ids
    check_vectors(actual, json.loads((vectors / "tokenizer_tests.json").read_text())["bert-base-uncased"])


@pytest.mark.parametrize("name", ["distilgpt2", "t5-base"])
def test_published_gpt2_and_t5_give_the_published_ids(
    name: str, public_data: Callable[[str], Path], tmp_path: Path
) -> None:
    vectors = json.loads((public_data("tok_hf_vectors") / "tokenizer_tests.json").read_text())[name]
    if name == "t5-base":
        model = (public_data("tok_t5_clip_openai_gpt") / "t5_tokenizer_base.model").read_bytes()
        actual = Tokenizer.load(write(tmp_path, {"spiece.model": model}))
        reference = transformers.T5Tokenizer.from_pretrained(tmp_path)
        assert actual.sentinel_ids == [reference.convert_tokens_to_ids(f"<extra_id_{i}>") for i in range(100)]
        assert actual.sentinel_ids[:2] == [32099, 32098]
        assert set(actual.sentinel_ids) <= actual.control_ids
    else:
        files = public_data("tok_gpt2")
        names = {"vocab.json": "encoder.json.gz", "merges.txt": "vocab.bpe.gz"}
        read = {new: gzip.decompress((files / old).read_bytes()) for new, old in names.items()}
        actual = Tokenizer.load(write(tmp_path, read))
        samples = (public_data("tok_llamacpp_vectors") / "all.gguf.inp").read_text("utf-8")
        ids = (public_data("tok_llamacpp_vectors") / "ggml-vocab-gpt-2.gguf.out").read_text().splitlines()
        texts = samples.split("\n__ggml_vocab_test__\n")
        assert texts.pop() == ""
        for text, expected in zip(texts, ids, strict=True):
            assert actual.encode(text) == [int(i) for i in expected.split()], text
    check_vectors(actual, vectors)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("CLIPTokenizer", ("clip_encoder.json.gz", "clip_vocab.bpe.gz")),
        ("OpenAIGPTTokenizer", ("openai-gpt-vocab.json.gz", "openai-gpt-merges.txt.gz")),
    ],
)
def test_published_clip_and_openai_gpt_are_those_of_transformers(
    name: str, files: tuple[str, str], public_data: Callable[[str], Path], tmp_path: Path
) -> None:
    source = public_data("tok_t5_clip_openai_gpt")
    read = [gzip.decompress((source / file).read_bytes()) for file in files]
    folder = write(tmp_path, {"vocab.json": read[0], "merges.txt": read[1]})
    actual, reference = Tokenizer.load(folder), getattr(transformers, name).from_pretrained(folder)
    check_sample(actual, name)
    actual.save(tmp_path / "saved")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    samples = (public_data("tok_llamacpp_vectors") / "all.gguf.inp").read_text("utf-8")
    for text in [*SAMPLES, *samples.split("\n__ggml_vocab_test__\n")]:
        ids = actual.encode(text)
        expected = reference(text)["input_ids"]
        assert add_special_tokens(actual, ids).token_ids == expected == again(text)["input_ids"], text
        assert actual.decode(ids, skip_special=False) == reference.decode(
            ids, clean_up_tokenization_spaces=False
        )


def check_vectors(actual: Tokenizer, vectors: list[dict]) -> None:
    assert len(vectors) >= 18
    for vector in vectors:
        encoded_text = add_special_tokens(actual, actual.encode(vector["input"]))
        assert encoded_text.token_ids == vector["encoded"]["input_ids"], vector["input"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab.txt": "[CLS]\n[SEP]\na\n"}, "has no UNK token"),
        (
            {"vocab.json": '{"a": 0, "b": 0}', "merges.txt": ""},
            r"vocab\.json: does not map tokens to distinct ids",
        ),
        ({"vocab.json": '["a"]', "merges.txt": "\n"}, r"vocab\.json: does not map"),
        ({"vocab.json": "[" * 9999, "merges.txt": "\n"}, r"vocab\.json: not readable as JSON"),
        (
            {"vocab.json": '{"a": 0, "b": 1}', "merges.txt": "a b\n"},
            r"merges\.txt: 'a b' is no merge of two tokens",
        ),
        ({"vocab.json": '{"a": 0}', "merges.txt": b"\xff\xfe"}, r"merges\.txt: is not UTF-8"),
        (
            {"vocab.txt": "a", "tokenizer_config.json": '{"tokenizer_class": "BertJapaneseTokenizer"}'},
            "BertJapanese",
        ),
        (
            {"spiece.model": "a", "tokenizer_config.json": '{"tokenizer_class": "AlbertTokenizer"}'},
            "AlbertTokenizer",
        ),
        (
            {
                "vocab.json": '{"a": 0}',
                "merges.txt": "\n",
                "tokenizer_config.json": '{"tokenizer_class": "WhisperTokenizer"}',
            },
            "Whisper",
        ),
        (
            {
                "vocab.json": '{"a": 0}',
                "merges.txt": "\n",
                "tokenizer_config.json": '{"tokenizer_class": "CLIPTokenizer"}',
            },
            r"has no <\|",
        ),
        (
            {"vocab.txt": "\n".join(BERT_VOCABULARY), "tokenizer_config.json": '{"do_lower_case": "no"}'},
            "do_lower_case",
        ),
        (
            {
                "vocab.json": '{"a": 0}',
                "merges.txt": "\n",
                "tokenizer_config.json": '{"added_tokens_decoder": {"x": 1}}',
            },
            "added_tokens_decoder does not map",
        ),
        (
            {"vocab.json": '{"a": 0}', "merges.txt": "\n", "added_tokens.json": '{"<x>": 7}'},
            "'<x>' cannot have the id 7",
        ),
    ],
)
def test_damaged_and_unknown_files_are_named(
    files: dict[str, str | bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        Tokenizer.load(write(tmp_path, files))
    assert error.value.hint


def test_a_folder_without_any_tokenizer_lists_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no tokenizer") as error:
        Tokenizer.load(tmp_path)
    assert "source.spm + target.spm + vocab.json" in error.value.hint
    assert not isinstance(error.value, CorruptArtifact)
