"""What a model forgets when it goes on with a book, and what replay of its earlier text saves, at what cost.

The base is the pre-trained primer of a build (`parakit build`): it knows a small closed world and nothing else. It goes
on with one public-domain book for an equal number of tokens, of which none, 0.1, 0.25 or 0.5 are rows of the primer's own
text. Measured before and after, in one run each: the loss on pages of the book that were held out, and on the primer's
held-out text. The seed draws the order of the rows; shares take turns within each seed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.alignment_frontier.picture import draw
from benchmarks.harness import DATA, ROOT, SHOWN, Figures, report, summary
from parakit.common.progress import log
from parakit.data.config import TextConfig
from parakit.stages.config import PretrainConfig
from parakit.stages.data import make_corpus, make_shards
from parakit.stages.jobs import PretrainJob, pretrain

BOOK = "gutenberg/The-Adventures-of-Sherlock-Holmes_1661.txt.gz"
SHARES = (0.0, 0.1, 0.25, 0.5)
JUDGED = 0.25
PICTURE = ROOT / "docs" / "domain-adaptation.svg"
# Chosen before anything was measured.
BAR = {"forgetting_saved_by_a_quarter": ">= 0.8", "cost_of_a_quarter": "<= 0.1"}


def main(words: list[str]) -> None:
    """Go on with the book at every share for every seed, write the result and the picture."""
    parser = argparse.ArgumentParser(prog="make bench NAME=domain_adaptation", description=__doc__)
    parser.add_argument(
        "--build", type=Path, default=ROOT / "builds" / "primer", help="a build of the primer"
    )
    parser.add_argument("--book", type=Path, default=DATA / BOOK)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of the base's own batch")
    arguments = parser.parse_args(words)
    runs: dict[float, list[dict[str, Any]]] = {share: [] for share in SHARES}
    with tempfile.TemporaryDirectory() as folder:
        book = _encoded(arguments.book, arguments.build / "tokenizer", Path(folder))
        for seed in range(arguments.seeds):
            for share in SHARES if seed % 2 == 0 else SHARES[::-1]:
                runs[share].append(
                    _gone_on(arguments.build, book, share, seed, arguments.steps, Path(folder))
                )
                log(f"share {share}, seed {seed}: {runs[share][-1]}")
    figures = _figures(runs) | {"tokens": runs[0.0][0]["tokens"], "book": arguments.book.name.split(".")[0]}
    lines = {
        "primer: nats forgotten": [
            (share, figures[_name(share)]["forgetting"]["median"]) for share in SHARES
        ],
        "book: nats above no replay": [
            (share, figures[_name(share)]["book_cost"]["median"]) for share in SHARES
        ],
    }
    title = f"A primer model goes on with a book ({arguments.seeds} seeds)"
    draw(PICTURE, title, "share of the rows that are replayed", "nats per token", lines)
    shown = [f"{_name(share)}.{name}" for share in SHARES for name in ("forgetting", "book_bits_per_byte")]
    report("domain_adaptation", figures, BAR | dict.fromkeys(shown, SHOWN))


def _encoded(book: Path, tokenizer: Path, folder: Path) -> Path:
    """The book's pages as token shards, a tenth of them held out."""
    config = TextConfig(
        paths=(str(book),), max_document_chars=2_000, validation_fraction=0.1, test_fraction=0.0
    )
    corpus = make_corpus(config, folder / "corpus")
    return make_shards(corpus, tokenizer, folder / "book")


def _gone_on(build: Path, book: Path, share: float, seed: int, n_steps: int, folder: Path) -> dict[str, Any]:
    training = PretrainConfig(
        model=str(build / "pretrain"),
        replay=str(build / "shards"),
        replay_share=share,
        max_steps=n_steps,
        validate_every=n_steps,
        seed=seed,
        compile="off",
        device="cpu",
    )
    started = time.process_time()
    job = PretrainJob(book, None, folder / "work", training)
    found = pretrain(job, folder / "model", overwrite=True)
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
    for share, ours in runs.items():
        pairs = list(zip(ours, without, strict=True))
        figures = {name: summary([run[name] for run in ours]) for name in ours[0] if name != "tokens"}
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
    return f"replay_{share:g}".replace(".", "_")
