"""Models written as GGUF files: names, rows and metadata as llama.cpp's converter has them, and what is read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH_NAMES

from parakit.checkpoints import load_model
from parakit.checkpoints.gguf.export import load_gguf, write_model
from parakit.checkpoints.gguf.ollama import go_template, write_modelfile
from parakit.checkpoints.gguf.reader import read_gguf
from parakit.checkpoints.gguf.tokenizer_export import tokenizer_metadata
from parakit.checkpoints.gguf.writer import TensorPlan, write_gguf
from parakit.common.errors import UserError
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.checkpoints.conformance import random_ids
from tests.checkpoints.gguf import gguf_files
from tests.checkpoints.gguf.gguf_cases import CASES, make_case
from tests.checkpoints.gguf.gguf_files import sentencepiece_bpe_file

pytest.importorskip("transformers")
SETTINGS = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def as_tokenizer(folder: Path, tokenizer_json: str, template: str | None = gguf_files.TEMPLATE) -> Tokenizer:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer_json)
    settings = SETTINGS | ({"chat_template": template} if template else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return as_tokenizer(tmp_path_factory.mktemp("tokenizer"), gguf_files.byte_bpe().to_str())


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_written_file_is_what_llama_cpps_converter_writes(
    name: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    architecture, _, _, fields = CASES[name]
    reference, tensors = make_case(name, tmp_path / "folder")
    model, _ = load_model(tmp_path / "folder")
    with open(tmp_path / "model.gguf", "wb") as file:
        write_model(file, model, tokenizer, "F32", {"general.name": "tiny"}, with_template=True)
    found = read_gguf(tmp_path / "model.gguf")
    assert found.tensors.keys() == tensors.keys()
    for tensor_name, weights in tensors.items():
        assert np.array_equal(found.weights(tensor_name), weights.astype(np.float32)), tensor_name
    expected = gguf_files.write_gguf(
        tmp_path / "expected.gguf",
        MODEL_ARCH_NAMES[architecture],
        lambda w: fields(w, reference.config),
        {"token_embd.weight": np.zeros((300, 4))},
    )
    for key, value in read_gguf(expected).metadata.items():
        if key not in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type"):
            assert found.metadata[key] == value, key
    read, read_tokenizer = load_gguf(tmp_path / "model.gguf")
    ids = random_ids(300, 2, 24)
    assert (read(ids) - model(ids)).abs().max() < 1e-4
    assert read_tokenizer.encode("the 12 birds") == tokenizer.encode("the 12 birds")


def test_files_are_read_by_the_gguf_package(tmp_path: Path) -> None:
    import gguf

    values = {"a.count": 7, "a.number": 0.5, "a.flag": True, "a.text": "\u00e9", "a.texts": ["x", ""]}
    values |= {"a.ids": [1, 2], "a.scores": [0.5, -1.0], "a.flags": [True, False], "a.none": []}
    plans = [TensorPlan("one", (3, 2), "F32"), TensorPlan("two", (5,), "F16")]
    data = [np.arange(24, dtype=np.uint8), np.arange(10, dtype=np.uint8)]
    with open(tmp_path / "m.gguf", "wb") as file:
        write_gguf(file, {"general.architecture": "none", **values}, plans, data)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    for key, value in values.items():
        assert reader.fields[key].contents() == value, key
    for plan, raw, tensor in zip(plans, data, reader.tensors, strict=True):
        assert (tensor.name, tuple(tensor.shape)[::-1]) == (plan.name, plan.shape)
        assert tensor.data.tobytes() == raw.tobytes()


def changed(tokenizer: Tokenizer, folder: Path, **parts: object) -> Tokenizer:
    parsed = json.loads(tokenizer.json)
    model = parsed["model"] | parts.pop("model", {})  # type: ignore[operator]
    return as_tokenizer(folder, json.dumps(parsed | parts | {"model": model}))


def test_a_splitting_gets_its_name_or_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from parakit.checkpoints.gguf.pre_tokenizers import SPLITTINGS

    for name, split in SPLITTINGS.items():
        normalizer = {"type": split.normalizer} if split.normalizer else None
        made = changed(
            tokenizer,
            tmp_path / name,
            pre_tokenizer=split.pre_tokenizer(),
            normalizer=normalizer,
            model={"ignore_merges": split.ignore_merges},
        )
        found = tokenizer_metadata(made, 300, with_template=False)["tokenizer.ggml.pre"]
        assert SPLITTINGS[found].patterns == split.patterns, name
        assert SPLITTINGS[found].ignore_merges == split.ignore_merges, name
    own = {"type": "Split", "pattern": {"Regex": "[a-z]+|."}, "behavior": "Isolated", "invert": False}
    bytes_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    refused = {
        r"splits text by '\[a-z\]": {
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [own, bytes_step]}
        },
        "'Lowercase'": {"normalizer": {"type": "Lowercase"}},
        "llama.cpp knows splittings by name": {"pre_tokenizer": bytes_step | {"add_prefix_space": True}},
    }
    for i, (message, parts) in enumerate(refused.items()):
        with pytest.raises(UserError, match=message) as refusal:
            tokenizer_metadata(changed(tokenizer, tmp_path / str(i), **parts), 300, with_template=False)
        assert "parakit export" in refusal.value.hint


def test_parakits_own_tokenizers_are_qwen2s(tmp_path: Path) -> None:
    from parakit.tokens.config import TokenizerConfig
    from parakit.tokens.tokenizer.training import train_tokenizer
    from tests.sample_text import sentences

    own = train_tokenizer([sentences(1, 60)], TokenizerConfig(kind="byte_bpe", vocab_size=320))
    metadata = tokenizer_metadata(own, 330, with_template=True)
    assert metadata["tokenizer.ggml.pre"] == "qwen2"
    assert metadata["tokenizer.ggml.add_bos_token"] is True
    assert metadata["tokenizer.ggml.add_eos_token"] is False
    assert metadata["tokenizer.ggml.eos_token_id"] == own.eos_id
    assert metadata["tokenizer.ggml.eot_token_id"] == own.turn_ids["end"]
    types = metadata["tokenizer.ggml.token_type"]
    assert {types[i] for i in own.control_ids} == {3}
    assert types[own.vocab_size :] == [5] * (330 - own.vocab_size)


def test_a_sentencepiece_vocabulary_keeps_its_merges(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_bpe_file())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    tokenizer = Tokenizer.load(tmp_path)
    metadata = tokenizer_metadata(tokenizer, 370, with_template=False)
    sp = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_bpe_file())
    n = sp.get_piece_size()
    assert metadata["tokenizer.ggml.model"] == "llama"
    assert metadata["tokenizer.ggml.add_space_prefix"] is True
    assert metadata["tokenizer.ggml.tokens"][:n] == [sp.id_to_piece(i) for i in range(n)]
    assert [kind == 6 for kind in metadata["tokenizer.ggml.token_type"][:n]] == [
        sp.is_byte(i) for i in range(n)
    ]


def test_a_go_template_renders_what_the_chat_template_does(tokenizer: Tokenizer, tmp_path: Path) -> None:
    template, system = go_template(tokenizer)
    assert system is None
    assert template == (
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        "{{ end }}{{ end }}"
    )
    trims = gguf_files.TEMPLATE.replace("m['content']", "m['content'] | trim")
    json_text = gguf_files.byte_bpe().to_str()
    with pytest.raises(UserError, match="changes the content"):
        go_template(as_tokenizer(tmp_path / "trims", json_text, trims))
    numbered = gguf_files.TEMPLATE.replace("\n{{ m['content'] }}", " {{ loop.index }}\n{{ m['content'] }}")
    with pytest.raises(UserError, match="more than a system message"):
        go_template(as_tokenizer(tmp_path / "numbered", json_text, numbered))
    default = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    _, system = go_template(as_tokenizer(tmp_path / "default", json_text, default + gguf_files.TEMPLATE))
    assert system == "Be kind."
    sampling = {"temperature": 0.7, "stop": ('say "x"\n',)}
    written = write_modelfile(tmp_path / "m.gguf", tokenizer, 100_000, sampling, True).read_text()
    lines = written.splitlines()
    assert lines[:3] == ["# ollama create m -f m.Modelfile", "FROM ./m.gguf", "PARAMETER num_ctx 8192"]
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert 'PARAMETER stop "say \\"x\\"\\n"' in lines
    assert "PARAMETER temperature 0.7" in lines
