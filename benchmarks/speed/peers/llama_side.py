"""llama.cpp's side of `engine_cpu`, through the low-level interface of llama-cpp-python. Imports nothing of Parakit's: it
runs in the peer's own environment, on what the benchmark passes as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from typing import Any

import llama_cpp  # type: ignore[import-not-found]
import numpy as np

N_BATCH = 512


def be_quiet() -> Any:
    """No messages of llama.cpp's while the result lives."""
    callback = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


class Context:
    """A model and its cache for some sequences."""

    def __init__(self, spec: dict[str, Any], n_tokens: int, n_sequences: int = 1) -> None:
        llama_cpp.llama_backend_init()
        self._keep = be_quiet()
        self.model = llama_cpp.llama_model_load_from_file(
            spec["gguf"].encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = n_tokens * n_sequences, n_sequences
        params.n_batch = params.n_ubatch = N_BATCH
        params.n_threads = params.n_threads_batch = spec["threads"]
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp does not load {spec['gguf']}")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(N_BATCH, 0, n_sequences)

    def clear(self) -> None:
        """Forget all sequences."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self, tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        """Run tokens (id, position, sequence, whether the next is wanted); the most likely next ones."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, wanted
        if status := llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError(f"llama_decode: {status}")
        found = []
        for i, (*_, wanted) in enumerate(tokens):
            if wanted:
                logits = llama_cpp.llama_get_logits_ith(self.context, i)
                found.append(int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax()))
        return found


def generate(spec: dict[str, Any]) -> dict[str, Any]:
    """Greedy tokens after one prompt."""
    prompt = spec["prompt"]
    context = Context(spec, len(prompt) + spec["n_new"] + 8)

    def run(n_new: int) -> tuple[float, list[int]]:
        context.clear()
        started, ids = time.perf_counter(), []
        for start in range(0, len(prompt), N_BATCH):
            chunk = prompt[start : start + N_BATCH]
            last = start + len(chunk) == len(prompt)
            ids += context.decode(
                [(token, start + i, 0, last and i == len(chunk) - 1) for i, token in enumerate(chunk)]
            )
        for position in range(len(prompt), len(prompt) + n_new - 1):
            ids += context.decode([(ids[-1], position, 0, True)])
        return time.perf_counter() - started, ids

    run(2)
    first = min(run(1)[0] for _ in range(2))
    total, ids = run(spec["n_new"])
    return {
        "prefill": len(prompt) / first,
        "decode": (len(ids) - 1) / (total - first),
        "token_ids": ids,
    }


def throughput(spec: dict[str, Any]) -> dict[str, Any]:
    """Many sequences in one batch: a token of each that writes, then prompts as far as the batch has room."""
    work = spec["requests"]
    context = Context(spec, max(len(prompt) + n_new for prompt, n_new in work) + 8, len(work))
    context.decode([(1, 0, 0, True)])
    context.clear()
    started = time.perf_counter()
    ids: list[list[int]] = [[] for _ in work]
    n_read = [0] * len(work)
    while any(len(ids[i]) < n_new for i, (_, n_new) in enumerate(work)):
        tokens = []
        for i, (prompt, n_new) in enumerate(work):
            if ids[i] and len(ids[i]) < n_new:
                tokens.append((ids[i][-1], len(prompt) + len(ids[i]) - 1, i, True))
        for i, (prompt, _) in enumerate(work):
            while n_read[i] < len(prompt) and len(tokens) < N_BATCH:
                tokens.append((prompt[n_read[i]], n_read[i], i, n_read[i] == len(prompt) - 1))
                n_read[i] += 1
        wanted = [sequence for _, _, sequence, is_wanted in tokens if is_wanted]
        for sequence, token in zip(wanted, context.decode(tokens), strict=True):
            ids[sequence].append(token)
    seconds = time.perf_counter() - started
    return {"together": sum(map(len, ids)) / seconds, "token_ids": ids}


def quantize(spec: dict[str, Any]) -> dict[str, Any]:
    """Write the file `to` with weights of another type, by llama.cpp's own quantizer."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.pure = spec["file_type"], spec["threads"], True
    _keep, part = be_quiet(), spec["to"] + ".part"
    if status := llama_cpp.llama_model_quantize(spec["gguf"].encode(), part.encode(), ctypes.byref(params)):
        raise RuntimeError(f"llama_model_quantize: {status}")
    os.replace(part, spec["to"])
    return {}


if __name__ == "__main__":
    tasks = {"generate": generate, "throughput": throughput, "quantize": quantize}
    print(json.dumps(tasks[sys.argv[1]](json.loads(sys.argv[2]))), flush=True)
