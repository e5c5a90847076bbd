"""Checks of a corpus as a whole: what is wrong here shows in no batch. They read the facts that the corpus' report and
token shards made of it have (`data.corpus.FACTS`), when the corpus is written and again before each run on it.

Most are warnings: the run goes on, and its figures may mean less than they seem to. Without torch, for `parakit text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parakit.training.doctor.registry import CheckResult, check, checks_for

SUBJECT = "Corpus"
APPLIES = ("corpus", "text", "prefixed_text", "masked_text")
MAX_SHARE, MAX_TIMES_EQUAL = 1 / 3, 1.5  # of one file: a third, and half more than equal files would have
MAX_REPEATED, MAX_FREQUENT = 1 / 3, 0.1
MIN_LINES = 100
MIN_HELD_OUT = 5


@dataclass(frozen=True)
class CorpusContext:
    """A corpus without a run."""

    corpus: Mapping[str, Any]
    checked_as: tuple[str, ...] = ("corpus",)


def check_corpus(report: Mapping[str, Any]) -> list[CheckResult]:
    """The results of every check of a corpus, by its report."""
    context = CorpusContext(report)
    return [one.run(context) for one in checks_for(context.checked_as)]


@check(
    "held-out-in-training",
    subject=SUBJECT,
    applies_to=APPLIES,
    prevents="Pieces of one file, or two versions of one text, are in training and in held-out data: the held-out loss"
    " measures memory.",
    noticed_by="The texts of each split, with the near-duplicates of each, are compared with those of the others.",
    remedy="Prepare the corpus again with this version; name files with validation_paths to choose them yourself.",
    sources=("lm-eval PR #145",),
)
def held_out_in_training(context: Any) -> str | None:
    n = context.corpus.get("texts_in_two_splits", 0)
    return f"{n:,} texts, or versions of them, are in more than one split" if n else None


@check(
    "source-dominates",
    subject=SUBJECT,
    applies_to=APPLIES,
    prevents="One file drowns the others: the model learns it, and the loss says how well.",
    noticed_by="The share of each file in the training text is computed; one may have a third, or half more than an equal"
    " share.",
    remedy="Set max_source_share to train on a part of it, leave it out with exclude, or give more other text.",
    warns=True,
)
def source_dominates(context: Any) -> str | None:
    n_files, files = context.corpus.get("n_files", 0), context.corpus.get("largest_files", [])
    if n_files < 2 or not files:
        return None
    first, limit = files[0], max(MAX_SHARE, MAX_TIMES_EQUAL / n_files)
    if first["share"] <= limit:
        return None
    unit = "tokens" if "tokens" in first else "bytes"
    return f"{first['file']} has {first['share']:.0%} of the training {unit} of {n_files:,} files"


@check(
    "repeated-lines",
    subject=SUBJECT,
    applies_to=APPLIES,
    prevents="Lines that repeat, as in logs and forms, make the loss look wonderful, and the model recites them.",
    noticed_by="Lines that were there before, digits aside, are counted: they may be a third of the text, and the ten most"
    " frequent ones a tenth.",
    remedy="Leave such files out with exclude, or set max_source_share to train on a part of them.",
    warns=True,
)
def repeated_lines(context: Any) -> str | None:
    lines = context.corpus.get("lines", {})
    repeated, frequent = lines.get("repeated_share", 0.0), lines.get("frequent_share", 0.0)
    if lines.get("lines", 0) < MIN_LINES or (repeated <= MAX_REPEATED and frequent <= MAX_FREQUENT):
        return None
    example = f", such as {lines['frequent'][0]['line']!r}" if lines.get("frequent") else ""
    return (
        f"{repeated:.0%} of the text are lines that were there before (digits aside), and the ten most frequent lines"
        f" are {frequent:.0%}{example}"
    )


@check(
    "few-held-out-texts",
    subject=SUBJECT,
    applies_to=APPLIES,
    prevents="A validation split of a few texts measures these, not the kind of text; which ones they are decides the"
    " figure.",
    noticed_by=f"The texts of the validation split are counted; {MIN_HELD_OUT} are the least.",
    remedy="Give more files, raise validation_fraction, or name files with validation_paths.",
    warns=True,
)
def few_held_out_texts(context: Any) -> str | None:
    held_out = context.corpus.get("splits", {}).get("validation", {})
    n = held_out.get("sources", MIN_HELD_OUT)
    if not held_out.get("documents") or n >= MIN_HELD_OUT:
        return None
    regions = "regions of " if context.corpus.get("split_by") == "region" else ""
    return f"the validation split has {regions}{n} text{'s' if n != 1 else ''}"
