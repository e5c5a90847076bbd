"""transformers' side of `engine_cpu`: `generate`, and its continuous batching, as its documentation shows them."""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarks.speed.peers.engine_work import prompt_ids, requests, run_task


def _load(spec: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(spec["threads"])
    dtype = torch.float32 if spec["weights"] == "fp32" else torch.bfloat16
    return AutoModelForCausalLM.from_pretrained(spec["folder"], dtype=dtype).eval()


def _settings(**changes: Any) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(do_sample=False, eos_token_id=None, pad_token_id=0, **changes)


def generate(spec: dict[str, Any]) -> dict[str, Any]:
    """Greedy tokens after one prompt."""
    import torch

    model = _load(spec)
    model.generation_config = _settings()
    prompt = torch.tensor([prompt_ids(spec["n_prompt"], model.config.vocab_size)])

    def run(n_new: int) -> tuple[float, list[int]]:
        started = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=_settings(max_new_tokens=n_new),
            )
        return time.perf_counter() - started, out[0, prompt.shape[1] :].tolist()

    run(2)
    first = min(run(1)[0] for _ in range(2))
    total, ids = run(spec["n_new"])
    return {
        "prefill": prompt.shape[1] / first,
        "decode": (len(ids) - 1) / (total - first),
        "token_ids": ids,
    }


def throughput(spec: dict[str, Any]) -> dict[str, Any]:
    """Many requests at once by continuous batching."""
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    model = _load(spec)
    work = requests(model.config.vocab_size, spec["n_requests"], spec["longest"])
    page_size = 32
    pages = sum(-(-(len(request.prompt) + request.n_new) // page_size) + 1 for request in work)
    batching = ContinuousBatchingConfig(page_size=page_size, num_blocks=pages, max_batch_tokens=512)
    settings = _settings(max_new_tokens=max(request.n_new for request in work))
    found: dict[str, list[int]] = {}
    with model.continuous_batching_context_manager(
        generation_config=settings, continuous_batching_config=batching, block=True, timeout=30
    ) as manager:

        def collect(n: int) -> None:
            while len(found) < n:
                result = manager.get_result(timeout=5)
                if result is not None and result.is_finished():
                    if result.error:
                        raise RuntimeError(result.error)
                    found[result.request_id] = result.generated_tokens
                elif result is None and not manager.is_running():
                    raise RuntimeError("the thread that generates has ended")

        manager.add_request(work[0].prompt[:2], max_new_tokens=2)
        collect(1)
        found.clear()
        started = time.perf_counter()
        names = [manager.add_request(request.prompt, max_new_tokens=request.n_new) for request in work]
        collect(len(work))
        seconds = time.perf_counter() - started
    ids = [list(found[name]) for name in names]
    return {"together": sum(map(len, ids)) / seconds, "token_ids": ids}


if __name__ == "__main__":
    run_task({"generate": generate, "throughput": throughput}, sys.argv[1:])
