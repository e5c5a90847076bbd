"""Standard benchmarks by Parakit's engine and by lm-eval with transformers: the same log-likelihoods and the same items
right, in less processor time.

Prompts are made once, by lm-eval's tasks on local data, and both sides answer them in one process, chunk by chunk and in
turns. lm-eval takes the log-softmax in float32, whose sum over a vocabulary of 49,152 errs by 2e-5 nats a token: items whose
sums differ by more than `CLOSE` are computed by it once more with its `softmax_dtype` float64, outside the measured time.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, kept_or_measured, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark

SHOTS = {"mmlu": 5, "gsm8k": 5}
SCORED = ("mmlu", "hellaswag", "arc_easy", "lambada_openai")
GENERATED = ("gsm8k", "humaneval")
CLOSE = 5e-4
CODE_ENDS = [
    "\nclass",
    "\ndef",
    "\n#",
    "\nif",
    "\nprint",
]  # lm-eval's task humaneval, which cannot be made offline
Item = list[Any]  # lm-eval's requests of one document


@benchmark("harness", {
    "items": (">= 2000", "items of mmlu, hellaswag, arc_easy, lambada, gsm8k and humaneval, by both sides"),
    "items_that_differ": ("== 0", "items that one side has right and the other wrong, or answers with another text"),
    "largest_difference": ("<= 1e-3", "log-likelihood of a continuation: largest difference in nats"),
    "largest_difference_float32": (NO_TARGET, "the same, with lm-eval's log-softmax in float32"),
    "processor_time": ("<= 0.5", "processor time, of that which lm-eval with transformers takes"),
    "*.*.processor_time": (NO_TARGET, "processor time on {1}, of lm-eval's, {0}"),
})  # fmt: skip
def harness(
    *,
    n: int = 500,
    n_generated: int = 24,
    data: Path = DATA,
    models: tuple[Path, ...] = (),
    peer_batch: int = 16,
    new_tokens: int = 128,
    chunk: int = 50,
    work: Path | None = None,
) -> Figures:
    """`n` items of each scored task and `n_generated` of each generated one, for every model folder of `models` (the published
    model of 135M without any). `peer_batch`: lm-eval's batch size; `new_tokens`: length limit of generated text. `work` keeps
    finished chunks of `chunk` items.
    """
    figures: Figures = {}
    with work_folder(work) as folder:
        for model in models or (_published(),):
            kept = folder / model.name if work is not None else None
            sides = _Sides(model, peer_batch)
            figures[model.name] = {
                task: _joined(_chunks(sides, data, task, n, n_generated, new_tokens, chunk, kept))
                for task in (*SCORED, *GENERATED)
            }
    return figures | _joined([part for one in figures.values() for part in one.values()])


def _published() -> Path:
    from tests.real_models import transformers_folder

    found = transformers_folder()
    if found is None:
        raise SystemExit("no published model: `make real-models` fetches it")
    return found


def _chunks(
    sides: _Sides,
    data: Path,
    task: str,
    n: int,
    n_generated: int,
    new_tokens: int,
    chunk: int,
    kept: Path | None,
) -> list[Figures]:
    items = _items(data, task, n_generated if task in GENERATED else n, new_tokens)
    return [
        kept_or_measured(
            kept and kept / f"{task}-{start}-of-{len(items)}.json",
            partial(sides.compare, items[start : start + chunk], parakit_first=start // chunk % 2 == 0),
        )
        for start in range(0, len(items), chunk)
    ]


def _items(data: Path, task: str, n: int, new_tokens: int) -> list[tuple[Any, Any, Item]]:
    """(lm-eval's task or None, document, requests) of `n` items, spread evenly over the task's documents."""
    from lm_eval.api.instance import Instance

    from parakit.evaluation.harness.tasks import TaskLoader

    if task == "humaneval":
        lines = (
            gzip.decompress((data / "humaneval" / "HumanEval.jsonl.gz").read_bytes()).decode().splitlines()
        )
        settings = {"until": CODE_ENDS, "max_gen_toks": new_tokens, "do_sample": False}
        prompts = [json.loads(line)["prompt"] for line in lines]
        return [
            (None, prompt, [Instance("generate_until", {}, (prompt, dict(settings)), 0)])
            for prompt in _spread(prompts, n)
        ]
    tasks = [one for found in TaskLoader(data).load(task, SHOTS.get(task)) for one in found.tasks]
    chosen = _spread([(one, i) for one in tasks for i in range(len(one.task_docs))], n)
    items = []
    for one, index in chosen:
        document = one.task_docs[index]
        made = one.construct_requests(document, one.fewshot_context(document, one.config.num_fewshot))
        requests = made if isinstance(made, list) else [made]
        for request in requests if task in GENERATED else ():
            request.arguments = (request.args[0], {**request.args[1], "max_gen_toks": new_tokens})
        items.append((one, document, requests))
    return items


def _spread(things: Sequence[Any], n: int) -> list[Any]:
    n = min(n, len(things))
    return [things[i * len(things) // n] for i in range(n)]


class _Sides:
    """One model, loaded by Parakit and by lm-eval."""

    def __init__(self, folder: Path, peer_batch: int) -> None:
        import torch
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from parakit.checkpoints.loading import load_model
        from parakit.evaluation.harness.backends import make_backend
        from parakit.evaluation.harness.model import HarnessModel

        model, tokenizer = load_model(folder)
        assert tokenizer is not None, f"{folder} has no tokenizer"
        self.parakit = HarnessModel(make_backend(model, tokenizer), tokenizer)
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        names = AutoTokenizer.from_pretrained(folder)
        self.peer = HFLM(pretrained=loaded, tokenizer=names, batch_size=peer_batch)
        self.exact_peer = HFLM(pretrained=loaded, tokenizer=names, batch_size=1, softmax_dtype=torch.float64)

    def compare(self, items: Sequence[tuple[Any, Any, Item]], parakit_first: bool) -> Figures:
        """Both sides on the same items."""
        requests = [request for *_, own in items for request in own]
        kind = requests[0].request_type
        sides: dict[str, Callable[[], list[Any]]] = {
            "parakit": lambda: getattr(self.parakit, kind)(requests, disable_tqdm=True),
            "peer": lambda: getattr(self.peer, kind)(requests, disable_tqdm=True),
        }
        answers: dict[str, list[Any]] = {}
        seconds: dict[str, float] = {}
        for name in sides if parakit_first else reversed(sides):
            before = time.process_time()
            answers[name] = sides[name]()
            seconds[name] = time.process_time() - before
        found: Figures = {
            "items": len(items),
            "requests": len(requests),
            "items_that_differ": _n_different(items, answers["parakit"], answers["peer"]),
            "parakit_seconds": seconds["parakit"],
            "peer_seconds": seconds["peer"],
        }
        if kind == "loglikelihood":
            differences = [abs(a[0] - b[0]) for a, b in zip(answers["parakit"], answers["peer"], strict=True)]
            far = [i for i, difference in enumerate(differences) if difference > CLOSE]
            again = (
                self.exact_peer.loglikelihood([requests[i] for i in far], disable_tqdm=True) if far else []
            )
            found["largest_difference_float32"] = max(differences)
            for i, (value, _) in zip(far, again, strict=True):
                differences[i] = abs(answers["parakit"][i][0] - value)
            found["largest_difference"] = max(differences)
        return found


def _n_different(items: Sequence[tuple[Any, Any, Item]], first: Sequence[Any], second: Sequence[Any]) -> int:
    """Items with another score by lm-eval's own metrics, or another generated text."""
    n = start = 0
    for task, document, requests in items:
        end = start + len(requests)
        if requests[0].request_type == "generate_until":
            n += first[start:end] != second[start:end]
        else:
            scores = [task.process_results(document, list(side[start:end])) for side in (first, second)]
            shares = [{name: value for name, value in one.items() if name != "perplexity"} for one in scores]
            n += shares[0] != shares[1]
        start = end
    return n


def _joined(parts: Sequence[Figures]) -> Figures:
    summed = ("items", "requests", "items_that_differ", "parakit_seconds", "peer_seconds")
    found: Figures = {name: sum(part[name] for part in parts) for name in summed}
    for name in ("largest_difference", "largest_difference_float32"):
        if values := [part[name] for part in parts if name in part]:
            found[name] = max(values)
    return found | {"processor_time": found["parakit_seconds"] / found["peer_seconds"]}
