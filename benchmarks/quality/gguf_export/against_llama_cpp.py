"""Every architecture that is exported, against llama.cpp on the written file.

In F32: ids of texts in mixed scripts, greedy continuations of prompts, the most likely token at many positions, and ids of
conversations in the file's own template must be Parakit's. The other types are loaded, and their most likely tokens
compared with those that Parakit computes from the same file (llama.cpp rounds activations to 8 bits there). llama.cpp looks
GELU up in a table of float16: Parakit's side does so too here, or a near-tie in a hundred prompts is decided by the table.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import DATA, work_folder
from benchmarks.quality.gguf_export.models import MIXED, own_model, published_model, random_models
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.peers.peers import python_of
from parakit.checkpoints.gguf.export import load_gguf
from parakit.compression.gguf_export import export_gguf
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids
from parakit.model.heads import LanguageModel
from parakit.model.layers.feed_forward import FeedForward
from parakit.tokens.chat.template import compile_chat, stop_ids
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

CHATS = (
    [("user", "What is 2 + 2?")],
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Two\n\nlines")],
    [("user", "\u4f60\u597d"), ("assistant", "\U0001f600"), ("user", "don't  1")],
)
OTHER_TYPES = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M")
WINDOW = 48


@benchmark("gguf_export", {
    "*.ids": ("== 1.0", "{0}: share of texts with llama.cpp's ids"),
    "*.greedy": ("== 1.0", "{0}: share of prompts whose greedy tokens are llama.cpp's, in F32"),
    "*.top": (">= 0.999", "{0}: share of positions with llama.cpp's most likely token, in F32"),
    "*.chats": ("== 1.0", "{0}: share of conversations with llama.cpp's ids"),
    "*.types.*": (NO_TARGET, "{0} as {1}: share of positions with llama.cpp's most likely token"),
})  # fmt: skip
def gguf_export(
    *,
    data: Path = DATA,
    models: str = "",
    prompts: int = 100,
    tokens: int = 16,
    positions: int = 1000,
    work: Path | None = None,
) -> Figures:
    """`models`: names to restrict it to, separated by commas: published, own, and those of the tests' cases."""
    text = gzip.decompress((data / "wikitext-2" / "test.txt.gz").read_bytes()).decode()[:60_000]
    wanted = {name for name in models.split(",") if name}
    figures: Figures = {}
    with work_folder(work) as folder:
        for name, model in _models(folder, data, wanted):
            figures[name] = _compared(model, folder / f"{name}.gguf", text, prompts, tokens, positions)
            print(name, figures[name], file=sys.stderr, flush=True)
    return figures


def _models(folder: Path, data: Path, wanted: set[str]) -> list[tuple[str, Path]]:
    found = []
    if not wanted or "own" in wanted:
        found.append(("own", own_model(folder / "own", data)))
    if (not wanted or "published" in wanted) and (model := published_model(folder / "published")):
        found.append(("published", model))
    if not wanted - {"own", "published"} and wanted:
        return found
    cases = folder / "cases"
    return found + [(name, path) for name, path in random_models(cases) if not wanted or name in wanted]


def _compared(
    model_folder: Path, file: Path, text: str, n_prompts: int, n_tokens: int, n_compared: int
) -> Figures:
    export_gguf(model_folder, file, "F32", overwrite=True)
    model, tokenizer = load_gguf(file)
    assert isinstance(model, LanguageModel)
    _round_gelu(model)
    texts = [*MIXED, *(text[i : i + 20 + i % 171] for i in range(0, 20_000, 200))]
    starts = [text[i : i + 40] for i in range(0, 400 * n_prompts, 400)]
    before, _ = text_boundaries(tokenizer)
    prompts = [[*before, *tokenizer.encode(start)][: WINDOW // 2] for start in starts]
    windows = _windows(tokenizer, text, n_compared)
    stops = list(stop_ids(tokenizer))
    chats = [[{"role": role, "content": content} for role, content in chat] for chat in CHATS]
    job: dict[str, Any] = {"texts": texts, "prompts": prompts, "n": n_tokens, "stop": stops, "chats": chats}
    found = _llama_cpp(file, **job, windows=windows)
    config = SamplingConfig(temperature=0.0, max_new_tokens=n_tokens)
    if model.config.activation == "gelu_tanh":  # compiled steps do not look GELU up
        greedy = [_by_whole_passes(model, prompt, n_tokens) for prompt in prompts]
    else:
        greedy = [generate_ids(model, [prompt], config)[0] for prompt in prompts]
    cut = [ids[: min([ids.index(i) for i in stops if i in ids], default=n_tokens)] for ids in greedy]
    figures: Figures = {
        "ids": _share([tokenizer.encode(one) for one in texts], found["ids"]),
        "with_bos": _share([[*before, *tokenizer.encode(one)] for one in texts[:3]], found["with_bos"]),
        "greedy": _share(cut, found["greedy"]),
        "top": _share(_flat(_top(model, windows)), _flat(found["top"])),
        "chats": _share([compile_chat(tokenizer, chat, True).token_ids for chat in chats], found["chats"]),
        "n_prompts": len(prompts),
        "n_compared": sum(map(len, windows)),
        "types": {},
    }
    for kind in OTHER_TYPES:
        export_gguf(model_folder, file, kind, overwrite=True, accept_loss=True)  # type: ignore[arg-type]
        rounded, _ = load_gguf(file)
        assert isinstance(rounded, LanguageModel)
        _round_gelu(rounded)
        top = _llama_cpp(file, windows=windows)["top"]
        figures["types"][kind] = _share(_flat(_top(rounded, windows)), _flat(top))
    file.unlink()
    return figures


def _round_gelu(model: LanguageModel) -> None:
    """GELU as llama.cpp computes it on a CPU: of inputs in float16, as float16, exact beyond 10."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        looked_up = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x <= -10, torch.zeros_like(x), torch.where(x >= 10, x, looked_up))

    for module in model.modules():
        if isinstance(module, FeedForward) and model.config.activation == "gelu_tanh":
            module.activation = rounded


def _windows(tokenizer: Tokenizer, text: str, n_compared: int) -> list[list[int]]:
    ids = tokenizer.encode(text)[:n_compared]
    return [ids[i : i + WINDOW] for i in range(0, len(ids), WINDOW)]


@torch.inference_mode()
def _by_whole_passes(model: LanguageModel, prompt: list[int], n_tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(n_tokens):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@torch.inference_mode()
def _top(model: LanguageModel, windows: list[list[int]]) -> list[list[int]]:
    return [model(torch.tensor([window]))[0].argmax(-1).tolist() for window in windows]


def _flat(rows: list[list[int]]) -> list[int]:
    return [one for row in rows for one in row]


def _share(mine: list[Any], other: list[Any]) -> float:
    assert len(mine) == len(other)
    return sum(one == two for one, two in zip(mine, other, strict=True)) / max(1, len(mine))


def _llama_cpp(file: Path, **job: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"texts": [], "prompts": [], "n": 0, "stop": [], "windows": [], "chats": []}
    side = Path(__file__).with_name("llama_cpp_side.py")
    done = subprocess.run(
        [python_of("llama"), side],
        input=json.dumps({"file": str(file), "n_ctx": 64, **empty, **job}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"llama.cpp fails on {file.name}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
