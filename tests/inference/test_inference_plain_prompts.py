"""A plain text gets exactly what the published tokenizer adds to it, wherever a model reads one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import parakit
from parakit.data.documents import Document
from parakit.evaluation.perplexity import encode_documents, evaluate_loss
from parakit.inference.generation.text import context_ids, prompt_ids
from parakit.inference.prediction.batches import encode_texts
from parakit.inference.scoring import encode_pair
from parakit.model.config import DecoderConfig
from parakit.tokens import Tokenizer, TokenShards, write_shards
from tests.published_families import FAMILIES, write_model, write_tokenizer

transformers = pytest.importorskip("transformers")

TEXTS = ["the old red bird", " near a house.\n", "Zebras? 12 été"]
DECODER = DecoderConfig(vocab_size=300, d_model=16, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=8, d_ff=16)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(request.param, tmp_path_factory.mktemp("families") / request.param)


def test_a_prompt_gets_what_transformers_adds(family: Path) -> None:
    tokenizer, reference = Tokenizer.load(family), transformers.AutoTokenizer.from_pretrained(family)
    for text in TEXTS:
        wanted = reference(text)["input_ids"]
        assert prompt_ids(tokenizer, text) == wanted
        assert encode_texts(tokenizer, [text], DECODER)[0].token_ids == wanted
        before, counted = encode_pair(tokenizer, text, " again")
        n = len(context_ids(tokenizer, text))
        assert before[:n] == wanted[:n]
        assert counted == [False] * n + [True] * (len(before) - n)


def test_a_text_of_nothing_is_a_beginning(family: Path) -> None:
    tokenizer = Tokenizer.load(family)
    assert len(prompt_ids(tokenizer, "")) == 1
    assert context_ids(tokenizer, "")[0] in (tokenizer.bos_id, tokenizer.eos_id)


def test_documents_get_it_in_training_and_evaluation(family: Path, tmp_path: Path) -> None:
    tokenizer, reference = Tokenizer.load(family), transformers.AutoTokenizer.from_pretrained(family)
    documents = [Document(text, "a test", len(text.encode())) for text in TEXTS]
    write_shards({"train": documents}, tokenizer, tmp_path / "shards")
    trained, evaluated = (
        TokenShards.open(tmp_path / "shards", "train"),
        encode_documents(tokenizer, documents),
    )
    for number, text in enumerate(TEXTS):
        wanted = reference(text)["input_ids"]
        assert _document(evaluated, number) == wanted
        ended = wanted[-1] == tokenizer.eos_id
        assert _document(trained, number) == wanted + ([] if ended else [tokenizer.eos_id])
    n_first = 0
    if not context_ids(tokenizer, "a")[1:]:  # nothing is before the first token, so nothing predicts it
        n_first = sum(len(tokenizer.token_bytes[tokenizer.encode(text)[0]]) for text in TEXTS)
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    assert trained.n_bytes == evaluated.n_bytes == n_bytes - n_first


def _document(shards: TokenShards, number: int) -> list[int]:
    return np.asarray(shards.token_ids[shards.offsets[number] : shards.offsets[number + 1]]).tolist()


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "smollm2", "llama3"])
def test_a_plain_prompt_goes_on_as_with_transformers(name: str, tmp_path: Path) -> None:
    folder = write_model(name, tmp_path / name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("the old bird sees", return_tensors="pt")
    out = reference.generate(**ids, max_new_tokens=12)[0, ids["input_ids"].shape[1] :]
    model = parakit.load(folder, device="cpu")
    got = model.stream("the old bird sees", max_new_tokens=12, temperature=0.0)
    list(got)
    assert list(got.completion.token_ids) == out.tolist()
    torch.testing.assert_close(
        model.logits("the old bird sees"), reference(**ids).logits[0], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("setting", [True, False])
def test_flags_of_tokenizer_config_count_as_in_transformers(setting: bool, tmp_path: Path) -> None:
    """OPT's folder has vocab.json and merges.txt, and `add_bos_token`; a tokenizer.json decides by itself."""
    folder = write_tokenizer("gpt2", tmp_path / "json")
    flags = {"add_bos_token": setting, "tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(flags))
    with_json = transformers.AutoTokenizer.from_pretrained(folder)
    assert prompt_ids(Tokenizer.load(folder), "the bird") == with_json("the bird")["input_ids"]
    with_json.backend_tokenizer.model.save(str(folder))
    (folder / "tokenizer.json").unlink()
    without = transformers.AutoTokenizer.from_pretrained(folder)
    assert prompt_ids(Tokenizer.load(folder), "the bird") == without("the bird")["input_ids"]


@pytest.mark.long
def test_the_real_model_goes_on_and_measures_as_with_transformers(
    smollm2_folder: Path, public_data: Callable[[str], Path]
) -> None:
    """WikiText-2's first 60,000 bytes, nothing put in front: 2.8373 nats a token by transformers in windows of 2,048."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2_folder)
    reference = transformers.AutoModelForCausalLM.from_pretrained(smollm2_folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    out = reference.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    model = parakit.load(smollm2_folder, device="cpu")
    got = model.stream("The capital of France is", max_new_tokens=24, temperature=0.0)
    assert "".join(got).startswith(" Paris.")
    assert got.n_prompt_tokens == prompt["input_ids"].shape[1] == 5
    assert list(got.completion.token_ids) == out.tolist()

    text = gzip.decompress((public_data("wikitext-2") / "test.txt.gz").read_bytes())[:60_000]
    documents = encode_documents(model.tokenizer, [Document(text.decode(), "wikitext-2", len(text))])
    ids = tokenizer(text.decode(), return_tensors="pt")["input_ids"][0]
    assert documents.token_ids.tolist() == ids.tolist()
    with torch.inference_mode():
        logits = reference(ids[None, :512]).logits[0]
        wanted = float(torch.nn.functional.cross_entropy(logits, ids[1:513]))
    start = TokenShards(documents.token_ids[:513], np.array([0, 513]))
    assert evaluate_loss(model.network, start).loss_nats_per_token == pytest.approx(wanted, abs=1e-4)
    got = evaluate_loss(model.network, documents, seq_len=2048)
    assert got.n_tokens == 15_759
    assert got.loss_nats_per_token == pytest.approx(
        2.8373, abs=2e-3
    )  # whose windows leave out 8 first tokens
    assert got.bits_per_byte == pytest.approx(1.0751, abs=2e-3)
