"""The real models at inference: greedy text, chat, perplexity and sentence vectors, against transformers and
sentence-transformers on the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import parakit
from parakit.checkpoints.import_export import export_model, import_model
from parakit.cli.main import main

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]
N_TOKENS = 24
PROMPTS = ("The capital of France is", "Once upon a time", "def fib(n):")
MESSAGES = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "You answer in one word."},
        {"role": "user", "content": "Which colour has the sky?"},
        {"role": "assistant", "content": "Blue."},
        {"role": "user", "content": "And grass?"},
    ],
]


def peer_text(peer, tokenizer, ids: list[int]) -> str:
    """transformers' greedy continuation."""
    inputs = torch.tensor([ids])
    out = peer.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        max_new_tokens=N_TOKENS,
        pad_token_id=tokenizer.eos_token_id,
    )
    return tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)


@torch.no_grad()
def test_greedy_text_is_transformers(imported_smollm2: Path, peer_smollm2) -> None:
    """A plain prompt gets what the published tokenizer adds, which is nothing here; a conversation its template."""
    peer, tokenizer = peer_smollm2()
    model = parakit.load(imported_smollm2, device="cpu")
    for prompt in PROMPTS:
        expected = peer_text(peer, tokenizer, tokenizer(prompt)["input_ids"])
        assert model.generate(prompt, temperature=0, max_new_tokens=N_TOKENS) == expected
    for messages in MESSAGES:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        expected = peer_text(peer, tokenizer, ids)
        assert model.chat(messages, temperature=0, max_new_tokens=N_TOKENS) == expected


def test_the_command_answers_by_the_template(imported_smollm2: Path, capsys) -> None:
    arguments = ["generate", str(imported_smollm2), "What is the capital of France?", "--prompting", "chat"]
    assert main([*arguments, "--temperature", "0", "--max-new-tokens", "12", "--device", "cpu"]) == 0
    assert "The capital of France is Paris." in capsys.readouterr().out


@torch.no_grad()
def test_the_loss_of_a_text_is_transformers(
    imported_smollm2: Path, peer_smollm2, book: str, tmp_path: Path
) -> None:
    text = book[:3000].strip()
    (tmp_path / "text.txt").write_text(text)
    settings = {"text": (str(tmp_path / "text.txt"),), "seq_len": 1024, "micro_batch_size": 1}
    found = parakit.evaluate(imported_smollm2, device="cpu", **settings)
    peer, tokenizer = peer_smollm2()
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert ids.shape[1] < 1024  # one window
    expected = peer(ids, labels=ids).loss.item()
    measured = found["loss"]["text"]
    assert measured["n_tokens"] == ids.shape[1] - 1
    assert abs(measured["loss_nats_per_token"] - expected) <= 1e-4


@torch.no_grad()
def test_an_export_is_what_transformers_had(imported_smollm2: Path, peer_smollm2, tmp_path: Path) -> None:
    folder = export_model(imported_smollm2, tmp_path / "export")
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    peer, tokenizer = peer_smollm2()
    ids = tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    assert torch.equal(again(ids).logits, peer(ids).logits)
    assert transformers.AutoTokenizer.from_pretrained(folder).chat_template == tokenizer.chat_template


def test_sentence_vectors_are_sentence_transformers(
    published_model: Callable[[str], Path], book: str, tmp_path: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = published_model("minilm")
    texts = [
        "A cat sat on the mat.",
        "a",
        "THE Cat!",
        book[:4000],  # cut at 256 tokens
        *(book[i : i + 30 + i % 500] for i in range(0, 20_000, 1000)),
    ]
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    imported = import_model(str(folder), tmp_path / "minilm")
    found = parakit.load(imported, device="cpu").embed(texts)
    assert np.abs(np.asarray(found) - expected).max() <= 1e-5
