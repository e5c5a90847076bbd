"""What a model forgets in continued pre-training on a book, and what replay of its earlier text saves, at what cost.

The base is the pre-trained primer of a build (`parakit build`): it knows a small closed world and nothing else. It is
trained on one public-domain book for an equal number of tokens, of which none, 0.1, 0.25 or 0.5 are rows of the primer's own
text. Measured before and after, in one run each: the loss on pages of the book that were held out, and on the primer's
held-out text. The seed draws the order of the rows; shares take turns within each seed.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, ROOT, summary
from benchmarks.pictures import draw_lines
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.common.progress import log
from parakit.stages.config import PretrainConfig
from parakit.stages.data import make_corpus, make_shards
from parakit.stages.data_config import CorpusConfig
from parakit.stages.job import run_job
from parakit.stages.pretraining import PretrainJob

BOOK = "gutenberg/The-Adventures-of-Sherlock-Holmes_1661.txt.gz"
SHARES = (0.0, 0.1, 0.25, 0.5)
JUDGED = 0.25
PICTURE = ROOT / "docs" / "domain-adaptation.svg"


@benchmark("domain_adaptation", {
    "forgetting_saved_by_a_quarter": (">= 0.8", "share of the forgetting that replay of 25 % of the rows avoids"),
    "cost_of_a_quarter": ("<= 0.1", "bits per byte of the book that replay of 25 % costs"),
    "*.forgetting": (NO_TARGET, "{0}: rise of the loss on earlier text, nats per token"),
    "*.book_bits_per_byte": (NO_TARGET, "{0}: bits per byte of held-out pages of the book"),
})  # fmt: skip
def domain_adaptation(
    *, build: Path = ROOT / "builds" / "primer", book: Path = DATA / BOOK, seeds: int = 3, steps: int = 100
) -> Figures:
    """`build` is a build of recipes/primer.yaml; a run takes `steps` steps of the base's own batch."""
    runs: dict[float, list[Figures]] = {share: [] for share in SHARES}
    with tempfile.TemporaryDirectory() as folder:
        shards = _encode(book, build / "tokenizer", Path(folder))
        for seed in range(seeds):
            for share in SHARES if seed % 2 == 0 else SHARES[::-1]:
                runs[share].append(_continue(build, shards, share, seed, steps, Path(folder)))
                log(f"share {share}, seed {seed}: {runs[share][-1]}")
    figures = _figures(runs) | {"tokens": runs[0.0][0]["tokens"], "book": book.name.split(".")[0]}
    lines = {
        label: [(share, figures[_name(share)][name]["median"]) for share in SHARES]
        for label, name in (
            ("primer: nats forgotten", "forgetting"),
            ("book: nats above no replay", "book_cost"),
        )
    }
    title = f"Continued pre-training of a primer model on a book ({seeds} seeds)"
    draw_lines(PICTURE, title, "share of the rows that are replayed", "nats per token", lines)
    return figures


def _encode(book: Path, tokenizer: Path, folder: Path) -> Path:
    """The book's pages as token shards, a tenth of them held out."""
    config = CorpusConfig(
        paths=(str(book),), max_document_chars=2_000, validation_fraction=0.1, test_fraction=0.0
    )
    corpus = make_corpus(config, folder / "corpus")
    return make_shards(corpus, tokenizer, folder / "book")


def _continue(build: Path, book: Path, share: float, seed: int, n_steps: int, folder: Path) -> dict[str, Any]:
    training = PretrainConfig.parse(
        {
            "model": str(build / "pretrain"),
            "replay": str(build / "shards"),
            "replay_share": share,
            "max_steps": n_steps,
            "validate_every": n_steps,
            "seed": seed,
            "compile": "off",
            "device": "cpu",
        }
    )
    started = time.process_time()
    job = PretrainJob(book, None, folder / "work", training)
    found = run_job(job, folder / "model", overwrite=True)
    return {
        "forgetting": found["forgetting"],
        "primer_loss": found["earlier_loss"],
        "primer_loss_before": found["before"]["earlier_loss"],
        "book_loss": found["loss"],
        "book_loss_before": found["before"]["loss"],
        "book_bits_per_byte": found["bits_per_byte"],
        "book_bits_per_byte_before": found["before"]["bits_per_byte"],
        "tokens": found["tokens"],
        "processor_seconds": time.process_time() - started,
    }


def _figures(runs: dict[float, list[dict[str, Any]]]) -> Figures:
    """Every figure of every share over the seeds; what is compared is compared within a seed."""
    without = runs[0.0]
    found: Figures = {}
    for share, runs_of_share in runs.items():
        pairs = list(zip(runs_of_share, without, strict=True))
        figures = {
            name: summary([run[name] for run in runs_of_share])
            for name in runs_of_share[0]
            if name != "tokens"
        }
        figures["book_cost"] = summary([run["book_loss"] - other["book_loss"] for run, other in pairs])
        cost = [run["book_bits_per_byte"] - other["book_bits_per_byte"] for run, other in pairs]
        figures["book_cost_bits_per_byte"] = summary(cost)
        saved = [1 - run["forgetting"] / other["forgetting"] for run, other in pairs]
        figures["forgetting_saved"] = summary(saved)
        found[_name(share)] = figures
    judged = found[_name(JUDGED)]
    found["forgetting_saved_by_a_quarter"] = judged["forgetting_saved"]
    found["cost_of_a_quarter"] = judged["book_cost_bits_per_byte"]
    return found


def _name(share: float) -> str:
    return f"replay of {share:.0%} of the rows" if share else "no replay"
