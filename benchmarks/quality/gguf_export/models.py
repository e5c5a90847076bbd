"""The models that are exported: the published one, one trained here, and a random one of every architecture."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.harness import run_parakit
from parakit.checkpoints import save_model
from parakit.common import Lineage
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens import TokenizerConfig, train_tokenizer

MIXED = (
    "a  1",
    "x = 12345;  y=  678",
    "don't I'LL we'Ve",
    "$1,234.56  \n\n\t 7",
    "Stra\u00dfe, fa\u00e7ade, e\u0301, \u00bd \u2167",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440. \u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5.",
    "\u4f60\u597d,\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f \uc548\ub155\ud558\uc138\uc694",
    "\u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\U0001f600 \U0001f469\u200d\U0001f467 \u2713",
    "\x7f\xa0\u3000 end",
)
WINDOWED = {
    "mistral",
    "phi 3",
}  # windows shorter than the texts, which llama.cpp ignores (the export notes it)


def own_model(folder: Path, data: Path, steps: int = 60) -> Path:
    """A small model of Parakit's default shape, with its own tokenizer, after some steps on an encyclopedia's text."""
    text = gzip.decompress((data / "wikitext-2" / "test.txt.gz").read_bytes()).decode()[:400_000]
    tokenizer = train_tokenizer(iter([text, *MIXED]), TokenizerConfig(kind="byte_bpe", vocab_size=1000))
    torch.manual_seed(0)
    shape = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=64, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=16, d_ff=192,
        max_seq_len=256,
    )  # fmt: skip
    model = LanguageModel(shape)
    ids = torch.tensor(tokenizer.encode(text[:200_000]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        starts = torch.randint(len(ids) - 65, (8,)).tolist()
        rows = torch.stack([ids[start : start + 65] for start in starts])
        logits = model(rows[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return save_model(model.eval(), tokenizer, folder, Lineage("model", {"chat": True}))


def random_models(folder: Path) -> Iterator[tuple[str, Path]]:
    """A tiny random model of transformers for every architecture, with a byte-level tokenizer."""
    from tests.checkpoints.gguf import gguf_files
    from tests.checkpoints.gguf.gguf_cases import CASES, make_case

    template = gguf_files.TEMPLATE + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    settings = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    for name in sorted(CASES.keys() - WINDOWED):
        case = folder / name.replace(" ", "-")
        make_case(name, case)
        (case / "tokenizer.json").write_text(gguf_files.byte_bpe().to_str(), encoding="utf-8")
        config = json.dumps(settings | {"chat_template": template})
        (case / "tokenizer_config.json").write_text(config, encoding="utf-8")
        yield name, case


def published_model(folder: Path) -> Path | None:
    """SmolLM2-135M-Instruct, imported; None where it was not fetched."""
    from tests.real_models import find_model

    source = find_model("smollm2")
    if source is not None and not folder.exists():
        run_parakit("import", source, "--output", folder)
    return None if source is None else folder
