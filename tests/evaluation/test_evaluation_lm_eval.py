"""The loss of raw text equals lm-eval's rolling log-likelihood: its definition on transformers' logits, and where lm-eval
is installed (`pip install --target .peers/lm-eval`), its own code in a process of its own.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from parakit.checkpoints.loading import load_model
from parakit.evaluation.perplexity import LossResult, evaluate_text

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".peers" / "lm-eval"
_LM_EVAL = """
import json, sys
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

folder, max_length, texts = sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)
model = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=1, max_length=max_length, add_bos_token=False)
requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
print("FOUND", json.dumps(model.loglikelihood_rolling(requests, disable_tqdm=True)))
"""


def rolling_windows(
    ids: list[int], prefix: int, max_seq_len: int, context_len: int
) -> Iterator[tuple[list[int], int]]:
    """lm-eval's definition: the ids that a window reads, and how many of the last ones are predicted."""
    first = min(max_seq_len, len(ids))
    yield [prefix, *ids[:first]], first
    done = first
    while done < len(ids):
        n = min(len(ids) - done, max_seq_len - context_len + 1)
        yield ids[max(0, done + n - max_seq_len - 1) : done + n], n
        done += n


@torch.no_grad()
def rolling_nats(model: Any, ids: list[int], prefix: int, max_seq_len: int, context_len: int = 1) -> float:
    nats = 0.0
    for window, n in rolling_windows(ids, prefix, max_seq_len, context_len):
        logits = model(torch.tensor([window[:-1]])).logits[0].double().log_softmax(-1)
        nats -= float(logits.gather(1, torch.tensor(window[1:])[:, None])[-n:].sum())
    return nats


def peer_nats(folder: Path, texts: list[str], max_length: int) -> list[float]:
    if not (PEER / "lm_eval").is_dir():
        pytest.skip(f"lm-eval is not at {PEER.relative_to(ROOT)} (pip install --target)")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _LM_EVAL, str(folder), str(max_length)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PEER), "HF_HUB_OFFLINE": "1"},
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), "")
    assert line, done.stderr[-2000:]
    return [-value for value in json.loads(line.removeprefix("FOUND "))]


def measured(folder: Path, texts: list[str], tmp_path: Path, **settings: Any) -> LossResult:
    model, tokenizer = load_model(folder)
    assert tokenizer is not None
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return evaluate_text(model, tokenizer, [str(file)], text_start="bos", **settings)


def agrees(found: LossResult, nats: float, texts: list[str], tolerance: float) -> None:
    """Nats of the text, and the bits per byte and perplexity that follow."""
    assert found.loss_nats_per_token * found.n_tokens == pytest.approx(nats, rel=tolerance)
    n_bytes = sum(len(text.encode()) for text in texts)
    assert found.n_bytes == n_bytes
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / n_bytes, rel=tolerance)
    assert found.n_documents == len(texts)


@pytest.mark.parametrize("overlap", [0, 5])
def test_the_figure_is_a_rolling_log_likelihood(model_folder: Path, tmp_path: Path, overlap: int) -> None:
    """Of texts shorter, longer and much longer than the window, and one of exactly its length."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    reference = transformers.AutoModelForCausalLM.from_pretrained(model_folder).eval()
    texts = [" ".join(["Anna sees the bird."] * n) for n in (1, 3, 7, 20, 40)]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    window = len(ids[1])
    wanted = sum(rolling_nats(reference, one, tokenizer.bos_token_id, window, overlap + 1) for one in ids)
    found = measured(model_folder, texts, tmp_path, seq_len=window, overlap=overlap)
    assert found.n_tokens == sum(map(len, ids))
    agrees(found, wanted, texts, 1e-6)


@pytest.mark.long
@pytest.mark.parametrize("window", [16, 256])
def test_lm_eval_itself_finds_the_same(model_folder: Path, tmp_path: Path, window: int) -> None:
    texts = [" ".join(["Anna sees the bird."] * n) for n in (1, 7, 40)]
    nats = peer_nats(model_folder, texts, window)
    agrees(measured(model_folder, texts, tmp_path, seq_len=window), sum(nats), texts, 1e-5)


@pytest.mark.long
def test_on_lambada_the_published_model_has_lm_eval_s_perplexity(
    smollm2_folder: Path, public_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its end token, `<|im_end|>`, is measured nowhere, and with it the perplexity was a quarter higher."""
    with gzip.open(public_data("lambada_openai") / "lambada_test.jsonl.gz", "rt") as rows:
        texts = [json.loads(row)["text"] for row, _ in zip(rows, range(40), strict=False)]
    found = measured(smollm2_folder, texts, tmp_path)
    assert found.n_end_tokens == 0
    agrees(found, sum(peer_nats(smollm2_folder, texts, 8192)), texts, 1e-4)


@pytest.mark.long
def test_on_wikitext_the_published_model_has_lm_eval_s_bits_per_byte(
    smollm2_folder: Path, public_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """One document in windows of 512."""
    raw = gzip.decompress((public_data("wikitext-2") / "test.txt.gz").read_bytes()).decode()
    texts = [raw[:8_000]]
    found = measured(smollm2_folder, texts, tmp_path, seq_len=512)
    assert found.n_documents == 1
    agrees(found, sum(peer_nats(smollm2_folder, texts, 512)), texts, 1e-4)
